"""How a figure looks: transparent ground, one font, greys that read on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

FONT = 'Inter, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
GRID = "rgba(128,134,145,.22)"
PANEL_PIXELS = 168
"""Height of one panel of several below each other."""
_STACK_GAP = 84
_STACK_MARGIN = {"l": 52, "r": 14, "t": 30, "b": 48}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"gridcolor": GRID, "zeroline": False},
        "yaxis": {"gridcolor": GRID, "zeroline": False},
        "hoverlabel": {"namelength": -1},
    }
)


def plot_text(name: str) -> str:
    """`name` as plotly shows it letter by letter: plotly reads its texts as a little HTML."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def transparent(color: str, alpha: float) -> str:
    """A `#rrggbb` as rgba."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def stacked(titles: Sequence[str], *, x_title: str = "") -> dict[str, Any]:
    """Layout of panels below each other, each with axes of its own and its title above it."""
    count = len(titles)
    inner = count * PANEL_PIXELS + (count - 1) * _STACK_GAP
    layout: dict[str, Any] = {
        "height": inner + _STACK_MARGIN["t"] + _STACK_MARGIN["b"],
        "margin": _STACK_MARGIN,
        "annotations": [],
    }
    for index, title in enumerate(titles):
        number = "" if index == 0 else str(index + 1)
        top = 1 - index * (PANEL_PIXELS + _STACK_GAP) / inner
        bottom = max(0.0, top - PANEL_PIXELS / inner)
        layout[f"xaxis{number}"] = {"anchor": f"y{number}", "title": {"text": x_title}}
        layout[f"yaxis{number}"] = {"anchor": f"x{number}", "domain": [bottom, top], "nticks": 6}
        layout["annotations"].append(panel_title(title, top))
    return layout


def panel_title(text: str, top: float) -> dict[str, Any]:
    """A title at the upper left of a panel that ends at `top`, a share of the height."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": top,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 4,
        "showarrow": False,
        "font": {"size": 13},
    }
