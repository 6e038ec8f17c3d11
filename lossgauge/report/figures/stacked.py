"""Several figures, one below the other; each has one pair of axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from lossgauge.report.figures.style import plot_text

_TITLE_PIXELS = 26


def stacked(figures: Mapping[str, go.Figure]) -> go.Figure:
    """One figure that contains all: each part keeps its axes, its legend and its height, and gets a title."""
    parts = [figure.to_plotly_json() for figure in figures.values()]
    heights = [part["layout"]["height"] + _TITLE_PIXELS for part in parts]
    total, top = sum(heights), 0
    traces: list[Any] = []
    layout: dict[str, Any] = {"annotations": [], "shapes": []}
    for number, (title, part, height) in enumerate(zip(figures, parts, heights, strict=True)):
        of, axes = part["layout"], "" if number == 0 else str(number + 1)
        margin = of["margin"]
        high = 1 - (top + margin["t"] + _TITLE_PIXELS) / total
        low = 1 - (top + height - margin["b"]) / total
        top += height
        for trace in part["data"]:
            references = {"xaxis": f"x{axes}", "yaxis": f"y{axes}", "legend": f"legend{axes}"}
            traces.append({**trace, **references})
        layout[f"xaxis{axes}"] = {**of["xaxis"], "anchor": f"y{axes}"}
        layout[f"yaxis{axes}"] = {**of["yaxis"], "anchor": f"x{axes}", "domain": [low, high]}
        legend = of.get("legend", {})
        place = low + legend.get("y", 1.0) * (high - low)
        layout[f"legend{axes}"] = {**legend, "y": place}
        for kind in ("annotations", "shapes"):
            layout[kind] += [_moved(entry, axes) for entry in of.get(kind, ())]
        layout["annotations"].append(_title(title, y=high + margin["t"] / total))
    common = {"template": parts[0]["layout"]["template"], "hovermode": "closest"}
    # the margins above and below each part are included in its share of the height
    outer = {**parts[0]["layout"]["margin"], "t": 0, "b": 0}
    return go.Figure(traces, {**layout, **common, "height": total, "margin": outer})


def _moved(entry: dict[str, Any], axes: str) -> dict[str, Any]:
    """An annotation or a shape on other axes; references to the paper are unchanged."""
    references = {}
    for name in ("x", "y"):
        reference = str(entry.get(f"{name}ref", name))
        if reference != "paper":
            references[f"{name}ref"] = reference.replace(name, f"{name}{axes}", 1)
    return {**entry, **references}


def _title(text: str, *, y: float) -> dict[str, Any]:
    return {
        "text": f"<b>{plot_text(text)}</b>",
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": y,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
    }
