"""The style of all figures: transparent background, one font, greys that are readable in light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.number_format import short
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
        "hoverlabel": {"namelength": 40},
    }
}


class Numbers(NamedTuple):
    """A table of what a chart draws."""

    title: str
    columns: tuple[str, ...]
    """Of these, the first is that of the rows' names."""
    rows: tuple[tuple[str, ...], ...]


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
    numbers: Callable[[StudyView, str], Sequence[Numbers]] | None = None
    """What it draws, as tables for those who cannot see it; None if the section's own tables say it."""


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


NARROW = 640
"""Pixels of width below which the panels of a grid lie one below the other."""


def panel_grid(titles: Sequence[str], *, gap: int, bottom: int) -> dict[str, Any]:
    """Layout of panels in two columns, each with its own axes and a title above it; of one panel, in one.

    `meta.narrow` holds the changes for a narrow screen, where the page puts all panels into one column: plotly's key with
    its value, as `Plotly.relayout` takes them.
    """
    wide = _places(len(titles), columns=min(2, len(titles)), gap=gap, bottom=bottom)
    narrow = _places(len(titles), columns=1, gap=gap, bottom=bottom)
    layout: dict[str, Any] = {
        "template": TEMPLATE,
        "margin": {"l": 52, "r": 14, "t": _TOP, "b": bottom},
        "annotations": [_panel_title(title, 1.0) for title in titles],
        "meta": {"narrow": narrow},
    }
    for number in range(1, len(titles) + 1):
        layout[layout_axis("x", number)] = {"anchor": axis("y", number)}
        layout[layout_axis("y", number)] = {"anchor": axis("x", number)}
    for key, value in wide.items():
        name, _, part = key.partition(".")
        if name.startswith("annotations"):
            layout["annotations"][int(name[len("annotations[") : -1])][part] = value
        elif part:
            layout[name][part] = value
        else:
            layout[name] = value
    return layout


_BETWEEN = 0.075
"""Space between two columns, as a share of the width."""


def _places(count: int, *, columns: int, gap: int, bottom: int) -> dict[str, Any]:
    """Height of a grid of panels, and where each lies."""
    lines = -(-count // columns)
    inner = lines * PANEL_PIXELS + (lines - 1) * gap
    width = (1 - (columns - 1) * _BETWEEN) / columns
    places: dict[str, Any] = {"height": inner + _TOP + bottom}
    for number in range(count):
        line, column = divmod(number, columns)
        left, top = column * (width + _BETWEEN), 1 - line * (PANEL_PIXELS + gap) / inner
        places[f"{layout_axis('x', number + 1)}.domain"] = [left, min(1.0, left + width)]
        places[f"{layout_axis('y', number + 1)}.domain"] = [
            max(0.0, top - PANEL_PIXELS / inner),
            top,
        ]
        places[f"annotations[{number}].x"] = left
        places[f"annotations[{number}].y"] = top
    return places


def log_ticks(low: float, high: float, *, most: int = 6) -> dict[str, Any]:
    """Ticks of a logarithmic axis from `low` to `high`, both above 0: at most `most`, so that their labels have room.

    1, 2 and 5 of each decade if these are few enough, else whole decades, else every second or third one.
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    decades = range(first, last + 1)
    for digits, step in (
        ((1, 2, 5), 1),
        ((1, 3), 1),
        *(((1,), step) for step in range(1, len(decades) + 1)),
    ):
        ticks = [float(f"{digit}e{decade}") for decade in decades[::step] for digit in digits]
        ticks = [tick for tick in ticks if low / 1.01 <= tick <= high * 1.01]
        if 2 <= len(ticks) <= most:
            break
    else:
        ticks = [low, high] if _power(low) != _power(high) else [low]
    return {"type": "log", "tickvals": ticks, "ticktext": [_power(tick) for tick in ticks]}


def _power(tick: float) -> str:
    """`10⁻⁴`, `2·10⁻⁴`, `0.05`."""
    text = short(tick, 2)
    return text[2:] if text.startswith("1·10") else text


def framed(
    values: Sequence[float], *, least: float = 0.0, margin: float = 0.08
) -> tuple[float, float]:
    """The range of an axis: that of `values`, at least `least` wide, with a margin on both sides."""
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    space = margin * (high - low) if high > low else 0.5 * abs(high) or 0.5
    return low - space, high + space


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
        "align": "left",
        "yshift": 4,
        "showarrow": False,
        "font": {"size": 13},
    }
