"use strict";
// Names and ids come from the user's files: they become text nodes and attributes, never HTML.
(() => {
  const MOST_LINES = 200;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const percent = (share) => (share === null ? "—" : `${(100 * share).toFixed(1)} %`);
  const number = (value) => (value === null ? "—" : value.toFixed(3));
  const plotText = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  class DataSet {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.names = [...data.classes, ...(data.more_classes || [])];
      this.choice = root.querySelector("[data-choice]");
      this.sort = { column: "ap", ascending: true };
      this.shown = new Set();
      this.parts = {
        hardest: () => this.cards("hardest"),
        disagreement: () => this.cards("disagreement"),
        ordinary: () => this.cards("ordinary"),
        map: () => this.map(),
        classes: () => this.classes(),
        heat: () => this.heat(),
      };
      this.choice.addEventListener("change", () => {
        for (const part of this.shown) if (part !== "map") this.parts[part]();
      });
      for (const details of root.querySelectorAll("details[data-part]")) {
        const open = () => details.open && this.show(details.dataset.part);
        details.addEventListener("toggle", open);
        open();
      }
    }

    get space() {
      return Number(this.choice.value);
    }

    // a figure that is drawn while folded away does not know its width
    show(part) {
      if (this.shown.has(part)) return;
      this.shown.add(part);
      this.parts[part]();
      this.root.dataset.shown = [...this.shown].join(" ");
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    className(row) {
      return this.names[this.data.row_classes[row]];
    }

    // pictures

    picture(row, alt) {
      const thumbnail = this.data.thumbnails[row];
      if (!thumbnail)
        return make("span", { class: "data-id", role: "img", "aria-label": alt, title: this.data.ids[row] }, short(this.data.ids[row], 24));
      const [type, content] = thumbnail;
      return make("img", { src: `data:image/${type};base64,${content}`, alt, title: this.data.ids[row], width: 64, height: 64, class: type === "png" ? "tiny" : "" });
    }

    tile(row, query, rank) {
      const right = this.data.row_classes[row] === this.data.row_classes[query];
      const name = this.className(row);
      const alt = `nearest row ${rank}, of class ${name}: ${right ? "right" : "wrong"}`;
      return make(
        "div",
        { class: `data-tile ${right ? "right" : "wrong"}` },
        this.picture(row, alt),
        make("b", { "aria-hidden": "true" }, right ? "✓" : "✗"),
        make("small", { title: name, "aria-hidden": "true" }, name),
      );
    }

    line(card, space) {
      const rows = card.nearest[space].map((row, at) => this.tile(row, card.query, at + 1));
      return make("div", { class: "data-line" }, ...rows);
    }

    queryTile(card, space) {
      const [first] = card.nearest[space];
      const name = this.className(card.query);
      let alt = `query of class ${name}`;
      if (first !== undefined) {
        const right = this.data.row_classes[first] === this.data.row_classes[card.query];
        alt += `; its nearest row is of class ${this.className(first)}: ${right ? "right" : "wrong"}`;
      }
      return make("div", { class: "data-tile query" }, this.picture(card.query, alt), make("small", { title: name }, name));
    }

    cards(kind) {
      const cards = this.data.cards[kind].map((card) => {
        if (kind !== "disagreement")
          return make("div", { class: "data-card" }, this.queryTile(card, this.space), this.line(card, this.space));
        const both = [card.right, card.wrong].map((space) =>
          make("div", { class: "data-of-loss" }, make("span", { title: this.data.spaces[space].name }, this.data.spaces[space].name), this.line(card, space)),
        );
        return make("div", { class: "data-card" }, this.queryTile(card, card.wrong), make("div", {}, ...both));
      });
      const nothing = {
        hardest: "No query is hard: every run ranks all rows of its class first.",
        disagreement: "No two losses disagree on a nearest row.",
        ordinary: "There is no query.",
      };
      this.find(`[data-cards="${kind}"]`).replaceChildren(...(cards.length ? cards : [make("p", { class: "method" }, nothing[kind])]));
    }

    // map

    map() {
      const { panels, rows, unit, colors, symbols } = this.data.map;
      const classes = rows.map((row) => this.data.row_classes[row]);
      this.mapped = panels.map((panel, space) => {
        const bytes = Uint8Array.from(atob(panel.positions), (letter) => letter.charCodeAt(0));
        const view = new DataView(bytes.buffer);
        const positions = panel.epochs.map((_, epoch) =>
          [0, 1].map((axis) => rows.map((__, at) => view.getInt16(2 * (2 * (epoch * rows.length + at) + axis), true) / unit)),
        );
        const figure = make("div", { class: "figure data-panel", role: "img", "aria-label": `map of ${rows.length} rows: ${this.data.spaces[space].name}` });
        const share = make("span", { class: "muted" });
        const caption = make("p", {}, make("i", { class: "swatch", style: `color:${this.data.spaces[space].color}` }), make("b", { title: this.data.spaces[space].name }, this.data.spaces[space].name), " ", share);
        this.find("[data-panels]").append(make("div", {}, caption, figure));
        return { panel, positions, figure, share };
      });
      const color = classes.map((of) => colors[of % colors.length]);
      const symbol = classes.map((of) => symbols[Math.floor(of / colors.length) % symbols.length]);
      const layout = () => JSON.parse(JSON.stringify(this.data.map.layout));
      for (const [space, { figure, positions }] of this.mapped.entries()) {
        const [x, y] = positions[positions.length - 1];
        const points = { type: "scatter", mode: "markers", x, y, hoverinfo: "none", marker: { color, symbol, size: 5, opacity: 0.85 } };
        const ring = { type: "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", marker: { symbol: "circle-open", size: 15, color: css("--ink"), line: { width: 2 } } };
        Plotly.newPlot(figure, [points, ring], layout(), { responsive: true, displayModeBar: false }).then(() => {
          const mark = (event) => this.mark(event.points[0].pointIndex);
          figure.on("plotly_hover", mark);
          figure.on("plotly_click", mark);
          this.root.dataset.panels = String(space + 1);
        });
      }
      this.legend(classes);
      this.slider = this.find("[data-epoch]");
      if (this.slider) this.slider.addEventListener("input", () => this.move());
      this.find("[data-class]").addEventListener("input", () => this.search(classes));
      this.move();
    }

    // colors of a few classes; of many, the search says more
    legend(classes) {
      const { colors, symbols, most_named: most } = this.data.map;
      const signs = { circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", cross: "✚", x: "✖" };
      const present = [...new Set(classes)].sort((one, other) => one - other);
      if (present.length > most) return;
      const buttons = present.map((of) => {
        const sign = make("i", { style: `color:${colors[of % colors.length]}`, "aria-hidden": "true" }, signs[symbols[Math.floor(of / colors.length) % symbols.length]]);
        const button = make("button", { type: "button", title: this.names[of], "aria-pressed": "false" }, sign, short(this.names[of], 24));
        button.addEventListener("click", () => {
          this.only = this.only === of ? undefined : of;
          for (const other of buttons) other.setAttribute("aria-pressed", String(other === button && this.only === of));
          this.find("[data-class]").value = "";
          this.search(classes);
        });
        return button;
      });
      this.find("[data-legend]").replaceChildren(...buttons);
    }

    // the last kept epoch of a panel up to the one of the slider
    epochOf(panel) {
      if (!this.slider) return panel.epochs.length - 1;
      const epochs = this.slider.dataset.epochs.split(" ").map(Number);
      const now = epochs[Number(this.slider.value)];
      return Math.max(0, panel.epochs.filter((epoch) => epoch <= now).length - 1);
    }

    move() {
      for (const { panel, positions, figure, share } of this.mapped) {
        const at = this.epochOf(panel);
        const [x, y] = positions[at];
        Plotly.restyle(figure, { x: [x], y: [y] }, [0]);
        share.textContent = panel.shares[at] === null ? "" : `${Math.round(100 * panel.shares[at])} %`;
      }
      if (this.slider) {
        const epoch = this.slider.dataset.epochs.split(" ")[Number(this.slider.value)];
        this.slider.parentElement.querySelector("output").textContent = epoch;
        this.slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
      }
      if (this.marked !== undefined) this.mark(this.marked);
    }

    mark(at) {
      this.marked = at;
      const row = this.data.map.rows[at];
      for (const { panel, positions, figure } of this.mapped) {
        const [x, y] = positions[this.epochOf(panel)];
        Plotly.restyle(figure, { x: [[x[at]]], y: [[y[at]]] }, [1]);
      }
      const words = make("span", {}, make("b", {}, this.className(row)), ` ${this.data.ids[row]}`);
      const picture = this.data.thumbnails[row] ? [this.picture(row, `row of class ${this.className(row)}`)] : [];
      this.find('[data-part="map"] [data-hover]').replaceChildren(...picture, words);
    }

    search(classes) {
      const part = this.find("[data-class]").value.trim().toLowerCase();
      if (part) {
        this.only = undefined;
        for (const button of this.root.querySelectorAll("[data-legend] button")) button.setAttribute("aria-pressed", "false");
      }
      const all = !part && this.only === undefined;
      const found = this.names.map((name, at) => (this.only === undefined ? name.toLowerCase().includes(part) : at === this.only));
      const opacity = classes.map((of) => (found[of] ? 0.85 : 0.07));
      const size = classes.map((of) => (!all && found[of] ? 8 : 5));
      for (const { figure } of this.mapped) Plotly.restyle(figure, { "marker.opacity": [opacity], "marker.size": [size] }, [0]);
      const names = this.names.filter((_, at) => found[at] && classes.includes(at));
      const line = all ? "Point at a row: it is marked in every panel." : names.length ? `${names.length === 1 ? "1 class" : `${names.length} classes`}: ${short(names.join(", "), 160)}` : "No class of the map has this in its name.";
      this.find('[data-part="map"] [data-hover]').textContent = line;
    }

    // classes

    classes() {
      if (!this.filter) {
        this.filter = this.find("[data-filter]");
        this.filter.addEventListener("input", () => this.lines());
        const columns = [
          ["name", "class"],
          ["size", "rows"],
          ["recall", "R@1"],
          ["ap", "AP@R"],
          ["intra", "intra"],
          ["nearest", "nearest class"],
          ["confused", "confused with"],
        ];
        const heads = columns.map(([column, title]) => {
          const button = make("button", { type: "button", class: "data-sort" }, title);
          button.addEventListener("click", () => {
            const ascending = this.sort.column === column ? !this.sort.ascending : true;
            this.sort = { column, ascending };
            this.lines();
          });
          return make("th", { scope: "col", "data-column": column }, button);
        });
        this.find(".data-classes thead").replaceChildren(make("tr", {}, ...heads));
      }
      this.lines();
    }

    value(table, at) {
      const { column } = this.sort;
      if (column === "name") return this.data.classes[at];
      if (column === "size") return this.data.sizes[at];
      if (column === "nearest") return table.nearest[at] === null ? null : this.data.classes[table.nearest[at]];
      if (column === "confused") return -(table.confused[at] || []).reduce((sum, [, share]) => sum + share, 0);
      return table[column][at];
    }

    lines() {
      const table = this.data.spaces[this.space].table;
      const part = this.filter.value.trim().toLowerCase();
      const { column, ascending } = this.sort;
      const compare = (one, other) => {
        const [a, b] = [this.value(table, one), this.value(table, other)];
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
        return ascending ? order : -order;
      };
      const found = this.data.classes
        .map((_, at) => at)
        .filter((at) => this.data.classes[at].toLowerCase().includes(part))
        .sort(compare);
      const rows = found.slice(0, MOST_LINES).map((at) => {
        const name = this.data.classes[at];
        const nearest = table.nearest[at] === null || table.nearest[at] === undefined ? "—" : this.data.classes[table.nearest[at]];
        const confused = (table.confused[at] || []).map(([other, share]) => `${short(this.data.classes[other], 24)} (${percent(share)})`).join(", ") || "—";
        const cells = [this.data.sizes[at], percent(table.recall[at] ?? null), percent(table.ap[at] ?? null), number(table.intra[at] ?? null)];
        return make(
          "tr",
          {},
          make("th", { scope: "row", title: name }, make("span", {}, name)),
          ...cells.map((text) => make("td", {}, String(text))),
          make("td", { class: "words", title: nearest }, make("span", {}, nearest)),
          make("td", { class: "words" }, make("span", {}, confused)),
        );
      });
      this.find(".data-classes tbody").replaceChildren(...rows);
      for (const head of this.root.querySelectorAll(".data-classes thead th"))
        head.setAttribute("aria-sort", head.dataset.column !== column ? "none" : ascending ? "ascending" : "descending");
      const more = found.length > rows.length ? `, the first ${rows.length} are shown` : "";
      this.find("[data-count]").textContent = `${found.length} of ${this.data.classes.length} classes${more}`;
    }

    // distances

    heat() {
      const { layout, classes, values } = this.data.heat;
      const place = this.find("[data-heat]");
      const z = values[this.space];
      const names = classes.map((of) => this.names[of]);
      const every = values.flat(2).filter((value) => value !== null);
      const ticks = classes.map((_, at) => at);
      const texts = names.map((name) => plotText(short(name, 18)));
      const trace = { type: "heatmap", z, hoverinfo: "none", xgap: 1, ygap: 1, zmin: 0, zmax: Math.max(0.01, ...every), colorscale: [[0, "#0b3c5d"], [0.25, "#2f7ab0"], [0.6, "#9ec9e2"], [1, "#eef5fa"]], colorbar: { thickness: 10, outlinewidth: 0, tickfont: { color: css("--muted") } } };
      const shape = JSON.parse(JSON.stringify(layout));
      shape.font = { color: css("--ink") };
      for (const axis of ["xaxis", "yaxis"]) Object.assign(shape[axis], { tickvals: ticks, ticktext: texts });
      Plotly.react(place, [trace], shape, { responsive: true, displayModeBar: false }).then(() => {
        if (!this.heated) {
          place.on("plotly_hover", (event) => {
            const { x, y, z: distance } = event.points[0];
            if (distance !== null && distance !== undefined) this.find('[data-part="heat"] [data-hover]').textContent = `${names[y]} and ${names[x]}: ${number(distance)}`;
          });
          this.heated = true;
        }
      });
      const pairs = [];
      z.forEach((line, one) => line.forEach((value, other) => other < one && value !== null && pairs.push([value, names[other], names[one]])));
      pairs.sort((one, other) => one[0] - other[0]);
      const rows = pairs.slice(0, 10).map(([value, one, other]) => make("tr", {}, make("th", { scope: "row" }, short(one, 40)), make("td", {}, short(other, 40)), make("td", {}, number(value))));
      this.find("[data-pairs] tbody").replaceChildren(...rows);
    }

    recolor() {
      if (this.shown.has("heat")) this.heat();
      for (const { figure } of this.mapped || []) Plotly.restyle(figure, { "marker.color": css("--ink") }, [1]);
    }
  }

  const sets = [];
  document.addEventListener("DOMContentLoaded", () => {
    for (const script of document.querySelectorAll("script[data-data-set]"))
      sets.push(new DataSet(document.getElementById(script.dataset.dataSet), JSON.parse(script.textContent)));
    document.documentElement.dataset.dataSets = String(sets.length);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => sets.forEach((set) => set.recolor()));
})();
