"""How a figure looks: transparent ground, one font, greys that read on light and on dark."""

from __future__ import annotations

import plotly.graph_objects as go

FONT = 'Inter, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
GRID = "rgba(128,134,145,.22)"
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
