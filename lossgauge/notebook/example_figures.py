"""The map and the heat map of the page's section "Your data" as whole figures: on the page, its script draws them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossgauge.report.figures import class_distances, embedding_map
from lossgauge.report.figures.style import plot_text
from lossgauge.results.examples import POSITION_UNIT, Examples

COLORSCALE = [[0, "#0b3c5d"], [0.25, "#2f7ab0"], [0.6, "#9ec9e2"], [1, "#eef5fa"]]
"""As on the page: dark is close."""


def map_figure(examples: Examples, space: int, epoch: int | None = None) -> dict[str, Any]:
    """The test rows of the map in one space, after one of its epochs; without it, the last one. A trace for each class."""
    epochs = examples.about.spaces[space].epochs
    wanted = epochs[-1] if epoch is None else epoch
    table = examples.positions.to_pydict()
    taken = [
        at
        for at, (of, when) in enumerate(zip(table["space"], table["epoch"], strict=True))
        if of == space and when == wanted
    ]
    label_of = dict(
        zip(*(examples.rows[name].to_pylist() for name in ("row", "label")), strict=True)
    )
    id_of = dict(zip(*(examples.rows[name].to_pylist() for name in ("row", "id")), strict=True))
    by_class: dict[int, list[int]] = {}
    for at in taken:
        by_class.setdefault(label_of[table["row"][at]], []).append(at)
    style = embedding_map.style(examples)
    colors, symbols = style["colors"], style["symbols"]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plot_text(_class_name(examples, label)),
            "x": [table["x"][at] / POSITION_UNIT for at in places],
            "y": [table["y"][at] / POSITION_UNIT for at in places],
            "text": [plot_text(str(id_of[table["row"][at]])) for at in places],
            "hovertemplate": "%{text}",
            "marker": {
                "color": colors[number % len(colors)],
                "symbol": symbols[number // len(colors) % len(symbols)],
                "size": 5,
                "opacity": 0.85,
            },
        }
        for number, (label, places) in enumerate(sorted(by_class.items()))
    ]
    few = len(by_class) <= style["most_named"]
    return {"data": traces, "layout": {**style["layout"], "showlegend": few}}


def distances_figure(examples: Examples, space: int) -> dict[str, Any]:
    """The cosine distances between class means in one space, on the scale of all spaces."""
    every = class_distances.class_distances(examples)
    names = [plot_text(_class_name(examples, label)) for label in examples.about.classes]
    ticks = {"tickvals": list(range(len(names))), "ticktext": names}
    layout = class_distances.layout(examples)
    trace = {
        "type": "heatmap",
        "z": [[None if np.isnan(v) else v for v in line] for line in every[space].tolist()],
        "zmin": 0,
        "zmax": max(0.01, float(np.nanmax(every, initial=0.0))),
        "xgap": 1,
        "ygap": 1,
        "colorscale": COLORSCALE,
    }
    axes = {axis: {**layout[axis], **ticks} for axis in ("xaxis", "yaxis")}
    return {"data": [trace], "layout": {**layout, **axes}}


def _class_name(examples: Examples, label: int) -> str:
    return examples.about.class_names.get(str(label), str(label))
