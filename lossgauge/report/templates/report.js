"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = () => ({
    "font.color": css("--ink"),
    "hoverlabel.bgcolor": css("--raised"),
    "hoverlabel.bordercolor": css("--line"),
    "hoverlabel.font.color": css("--ink"),
  });
  const drawn = [];

  const draw = async (script) => {
    const figure = JSON.parse(script.textContent);
    const place = document.getElementById(script.dataset.for);
    const layout = figure.layout;
    layout.font = { ...layout.font, color: css("--ink") };
    // the page has a legend of its own; only the scale of the discs is plotly's
    layout.showlegend = script.dataset.legend === "true";
    if (touch) layout.dragmode = false; // a finger on a figure scrolls the page
    await Plotly.newPlot(place, figure.data, layout, { responsive: true, displayModeBar: false });
    await Plotly.relayout(place, look());
    drawn.push(place);
  };

  const show = (box) => {
    const hidden = new Set(
      [...box.querySelectorAll("[data-group][aria-pressed=false]")].map((b) => b.dataset.group),
    );
    for (const place of box.querySelectorAll(".js-plotly-plot")) {
      const changes = {};
      for (const kind of ["annotations", "shapes"])
        (place.layout[kind] || []).forEach((item, index) => {
          if (item.name) changes[`${kind}[${index}].visible`] = !hidden.has(item.name);
        });
      Plotly.update(place, { visible: place.data.map((t) => !hidden.has(t.legendgroup)) }, changes);
    }
  };

  for (const box of document.querySelectorAll(".figures"))
    box.querySelector(".legend").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const keys = button.dataset.all ? box.querySelectorAll("[data-group]") : [button];
      const all = button.dataset.all;
      for (const key of keys) {
        const kind = key.dataset.kind;
        const pressed = all
          ? all === "true" || (all !== "false" && (kind === "reference" || kind === all))
          : key.getAttribute("aria-pressed") !== "true";
        key.setAttribute("aria-pressed", String(pressed));
      }
      show(box);
    });

  // a figure drawn while folded away does not know its width
  document.addEventListener(
    "toggle",
    (event) => event.target.querySelectorAll(".js-plotly-plot").forEach((place) => Plotly.Plots.resize(place)),
    true,
  );

  dark.addEventListener("change", () => drawn.forEach((place) => Plotly.relayout(place, look())));

  (async () => {
    for (const script of document.querySelectorAll("script[data-for]")) await draw(script);
    document.documentElement.dataset.drawn = String(drawn.length);
  })();
})();
