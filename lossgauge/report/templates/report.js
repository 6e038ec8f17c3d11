"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const PRINTED = 690; // pixels: what fits on A4 and on Letter
  const NARROW = 640; // as in style.py
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = (ink = css("--ink")) => ({
    "font.color": ink,
    "hoverlabel.bgcolor": css("--raised"),
    "hoverlabel.bordercolor": css("--line"),
    "hoverlabel.font.color": ink,
  });
  const drawn = [];
  const hidden = new Set(); // keys of losses that a legend hides, in all charts
  let touched = false; // before the first click, each chart shows what it was made with

  // ---- drawing: a chart in a closed part has no width, so it is drawn when the part opens

  const draw = (script) => {
    const place = document.getElementById(script.dataset.for);
    if (place.dataset.drawn) return;
    place.dataset.drawn = "true";
    const { data, layout } = JSON.parse(script.textContent);
    layout.font = { ...layout.font, color: css("--ink") };
    // the page has a legend of its own; only the scale of the marks is plotly's
    layout.showlegend = script.dataset.legend === "true";
    if (touch) layout.dragmode = false; // a finger on a chart scrolls the page
    Plotly.newPlot(place, data, layout, { responsive: true, displayModeBar: false });
    const narrow = layout.meta?.narrow;
    Plotly.relayout(place, {
      ...look(),
      ...(narrow && place.clientWidth < NARROW ? narrow : {}),
    });
    if (touched) show(place);
    place.on("plotly_hover", (event) => link(place, event.points?.[0]));
    place.on("plotly_unhover", unlink);
    drawn.push(place);
  };

  const isFolded = (place) => Boolean(place.closest("details:not([open])"));

  const drawVisible = (box = document) => {
    for (const script of box.querySelectorAll("script[data-for]"))
      if (!isFolded(document.getElementById(script.dataset.for))) draw(script);
    document.documentElement.dataset.drawn = String(drawn.length);
  };

  document.addEventListener("toggle", (event) => event.target.open && drawVisible(event.target), true);

  // ---- one legend: a click hides a loss in all charts, and in the other legends

  const show = (place) => {
    const changes = {};
    for (const kind of ["annotations", "shapes"])
      (place.layout[kind] || []).forEach((item, index) => {
        if (item.name) changes[`${kind}[${index}].visible`] = !hidden.has(item.name);
      });
    Plotly.update(place, { visible: place.data.map((t) => !hidden.has(t.legendgroup)) }, changes);
  };

  const buttons = () => document.querySelectorAll(".legend [data-group]");

  for (const legend of document.querySelectorAll(".legend"))
    legend.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const all = button.dataset.all;
      const pressed = new Map();
      for (const key of all ? legend.querySelectorAll("[data-group]") : [button]) {
        const kind = key.dataset.kind;
        pressed.set(
          key.dataset.group,
          all
            ? all === "true" || (all !== "false" && (kind === "reference" || kind === all))
            : key.getAttribute("aria-pressed") !== "true",
        );
      }
      for (const key of buttons()) {
        if (pressed.has(key.dataset.group))
          key.setAttribute("aria-pressed", String(pressed.get(key.dataset.group)));
        if (key.getAttribute("aria-pressed") === "true") hidden.delete(key.dataset.group);
        else hidden.add(key.dataset.group);
      }
      touched = true;
      drawn.forEach(show);
    });

  // ---- one hover: the loss under the pointer stands out in all charts, with its numbers at the same epoch

  const keyOf = (trace) => trace.legendgroup;

  const dim = (key) => {
    for (const place of drawn)
      for (const node of place.querySelectorAll(".scatterlayer .trace")) {
        const of = node.__data__?.[0]?.trace;
        node.classList.toggle("dimmed", Boolean(key && of?.legendgroup && keyOf(of) !== key));
      }
  };

  const inView = (place) => {
    const { top, bottom } = place.getBoundingClientRect();
    return bottom > 0 && top < innerHeight && !isFolded(place);
  };

  const link = (from, point) => {
    const key = point && keyOf(point.data);
    if (!key) return;
    clearTimeout(leaving);
    dim(key);
    const withEpochs = (place) => Boolean(place.layout.xaxis2?.matches);
    for (const place of drawn) {
      if (!inView(place) || (place === from && !withEpochs(place))) continue;
      const points = [];
      place._fullData.forEach((trace, curveNumber) => {
        if (keyOf(trace) !== key || trace.visible !== true || !trace.hovertemplate) return;
        let pointNumber = trace.x.length - 1;
        if (withEpochs(place) && withEpochs(from)) pointNumber = trace.x.indexOf(point.x);
        if (pointNumber >= 0) points.push({ curveNumber, pointNumber });
      });
      const subplots = [...new Set(points.map((p) => place._fullData[p.curveNumber]).map((t) => (t.xaxis || "x") + (t.yaxis || "y")))];
      if (points.length) Plotly.Fx.hover(place, points, subplots);
    }
  };

  // plotly also says that a point is left when it goes on to the next one, and must keep that one then
  let leaving;
  const unlink = () => {
    clearTimeout(leaving);
    leaving = setTimeout(() => {
      dim(null);
      for (const place of drawn) Plotly.Fx.unhover(place);
    });
  };

  // ---- parts: a link opens what it leads to

  const open = (id) => {
    const target = id && document.getElementById(id);
    if (!target) return;
    const own = target.matches(".fold") ? target.querySelector("details") : null;
    for (let part = own || target.closest("details"); part; part = part.parentElement?.closest("details"))
      part.open = true;
    drawVisible();
    target.scrollIntoView();
  };
  const follow = () => open(decodeURIComponent(location.hash.slice(1)));
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) follow(); // again: no hashchange
  });

  const links = [...document.querySelectorAll(".contents a")];
  if (links.length && "IntersectionObserver" in window) {
    const seen = new Set();
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
      const current = links.find((a) => seen.has(a.hash.slice(1)));
      for (const a of links)
        if (a === current) a.setAttribute("aria-current", "true");
        else a.removeAttribute("aria-current");
    }, { rootMargin: "0px 0px -60% 0px" });
    for (const a of links) {
      const target = document.getElementById(a.hash.slice(1));
      if (target) watcher.observe(target);
    }
  }

  // ---- sorting a table: rows of losses only; what is not a loss stays below

  for (const table of document.querySelectorAll("table.sortable"))
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button.sort");
      if (!button) return;
      const head = button.closest("th");
      const column = head.cellIndex;
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows];
      const losses = rows.filter((row) => row.matches(".loss, .failed"));
      const value = (row) => {
        const cell = row.cells[column];
        if (!column) return cell.textContent;
        return cell?.dataset.value === undefined ? null : Number(cell.dataset.value);
      };
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null); // no number: last
        const by = column ? x - y : x.localeCompare(y);
        return up ? by : -by;
      };
      body.append(...losses.sort(order), ...rows.filter((row) => !losses.includes(row)));
    });

  // ---- print: all parts open, all charts drawn, black on white and as wide as the paper

  let folded = [];
  const sized = (place, width) => Plotly.relayout(place, { ...look(width ? "#1b1f27" : undefined), width, autosize: !width });
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open], .numbers)")];
    for (const part of folded) part.open = true;
    drawVisible();
    for (const place of drawn) sized(place, PRINTED);
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
    for (const place of drawn) sized(place, null);
  });

  dark.addEventListener("change", () => drawn.forEach((place) => Plotly.relayout(place, look())));

  drawVisible();
  if (location.hash) follow();
})();
