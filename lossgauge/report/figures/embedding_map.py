"""The map: one panel for each space, the same test rows in each, at some epochs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from lossgauge.report.figures.style import TEMPLATE
from lossgauge.results.examples import POSITION_UNIT, Examples

COLORS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee"),
    *("#aa3377", "#e07b39", "#8a6fd1", "#7f7f7f", "#2a9d8f"),
)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
"""Class 10 has the color of class 0 and the next symbol: 60 classes look different."""

MOST_NAMED = 20
"""With more classes the page has no legend of their colors: the search and the pointer name them."""


def map_rows(examples: Examples) -> list[int]:
    """The rows of the map, ascending."""
    rows: list[int] = np.unique(examples.positions["row"].to_numpy()).tolist()
    return rows


def positions(examples: Examples) -> list[str]:
    """For each space the base64 of little-endian 16-bit numbers: x and y of each row, row after row, epoch after epoch."""
    table = {
        name: examples.positions[name].to_numpy() for name in ("space", "epoch", "row", "x", "y")
    }
    order = np.lexsort([table["row"], table["epoch"], table["space"]])
    both = np.column_stack([table["x"], table["y"]])[order].astype("<i2")
    of = table["space"][order]
    return [
        base64.b64encode(both[of == space].tobytes()).decode("ascii")
        for space in range(len(examples.about.spaces))
    ]


def style(examples: Examples) -> dict[str, Any]:
    """The layout of a panel, and what turns whole numbers into coordinates: all panels have one scale."""
    x, y = (examples.positions[name].to_numpy() for name in ("x", "y"))
    reach = float(max(np.abs(x).max(initial=1), np.abs(y).max(initial=1))) / POSITION_UNIT * 1.06
    axis = {
        "range": [-reach, reach],
        "visible": False,
        "fixedrange": True,
    }
    return {
        "unit": POSITION_UNIT,
        "colors": COLORS,
        "symbols": SYMBOLS,
        "most_named": MOST_NAMED,
        "layout": {
            "template": TEMPLATE,
            "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
            "showlegend": False,
            "hovermode": "closest",
            "dragmode": False,
            "xaxis": axis,
            "yaxis": {**axis, "scaleanchor": "x"},
        },
    }
