"""The style of all figures: transparent background, one font, greys that are readable in light and dark mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lossgauge.results.view import Loss, StudyView
from lossgauge.terminal import safe

Figure = dict[str, Any]
"""`data` and `layout` in plotly's JSON format. Not a `plotly.graph_objects.Figure`: creating those makes a page
take 1.5 times as long, nearly all of it for validation, which the tests do instead."""

Trace = dict[str, Any]

FONT = 'Inter, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
GRID = "rgba(128,134,145,.22)"
PANEL_PIXELS = 168
"""Height of one panel in a stack of panels."""
_TOP = 30
TEMPLATE: dict[str, Any] = {
    "layout": {
        "font": {"family": FONT, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"gridcolor": GRID, "zeroline": False},
        "yaxis": {"gridcolor": GRID, "zeroline": False},
        "hoverlabel": {"namelength": -1},
    }
}


class Chart(NamedTuple):
    """A chart, as a section of the page shows it."""

    key: str
    """Its id on the page, before the number of the dataset."""
    label: str
    """Its content in a few words, for a screen reader."""
    draw: Callable[[StudyView, str], Figure | None]
    """The figure of one dataset; None if there is nothing to draw."""
    note: Callable[[StudyView, str], str]
    """How to read it, in a sentence or two."""
    heading: str = ""
    """Empty if its section already has one."""
    losses: Callable[[StudyView, str], Sequence[Loss]] | None = None
    """The buttons of its own legend; None if it uses the legend of its section."""
    has_legend: bool = False
    """Whether plotly's legend is shown as well."""


def plot_text(name: str) -> str:
    """`name` escaped, so that plotly shows it unchanged: plotly interprets text as simple HTML."""
    return safe(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def transparent(color: str, alpha: float) -> str:
    """A `#rrggbb` color as rgba."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def five_digits(value: float) -> float:
    """`value` with the number of digits that a figure can show."""
    return float(f"{value:.5g}")


def axis(letter: str, number: int) -> str:
    """`y`, `y2`, `y3`: plotly's names of the axes of the first, second and third panel."""
    return letter if number == 1 else f"{letter}{number}"


def stacked_panels(titles: Sequence[str], *, gap: int, bottom: int) -> dict[str, Any]:
    """Layout of panels one below the other, `gap` pixels apart, each with a y axis and a title above it.

    The chart adds its x axes. plotly's make_subplots takes 15 ms for the same result, and its panels cannot share one
    x axis, which a hover label over all panels needs.
    """
    inner = len(titles) * PANEL_PIXELS + (len(titles) - 1) * gap
    layout: dict[str, Any] = {
        "template": TEMPLATE,
        "height": inner + _TOP + bottom,
        "margin": {"l": 52, "r": 14, "t": _TOP, "b": bottom},
        "annotations": [],
    }
    for number, title in enumerate(titles, start=1):
        top = 1 - (number - 1) * (PANEL_PIXELS + gap) / inner
        domain = [max(0.0, top - PANEL_PIXELS / inner), top]
        layout[layout_axis("y", number)] = {"anchor": axis("x", number), "domain": domain}
        layout["annotations"].append(_panel_title(title, top))
    return layout


def layout_axis(letter: str, number: int) -> str:
    """`yaxis`, `yaxis2`: the key in a layout of the axis that traces call `y`, `y2`."""
    return f"{letter}axis" if number == 1 else f"{letter}axis{number}"


def _panel_title(text: str, top: float) -> dict[str, Any]:
    """A title at the upper left of a panel; `top` is the upper edge of the panel, as a share of the height."""
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
