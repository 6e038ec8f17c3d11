"""The curves over epochs: VARIANCE, GREEDINESS and R@1 stacked on one axis of time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import plotly.graph_objects as go

from lossgauge.report.contents import losses_and_tuned
from lossgauge.report.figures.style import (
    PANEL_PIXELS,
    TEMPLATE,
    panel_title,
    plot_text,
    transparent,
)
from lossgauge.report.naming import GREY, OWN_COLORS, UNTRAINED, color_of, display_name, is_tuned
from lossgauge.report.tables import measured
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.stats.number_format import Unit, shown
from lossgauge.types import Results

FROZEN = "frozen features"


class Panel(NamedTuple):
    column: str
    title: str
    log: bool = False
    percent: bool = False
    from_zero: bool = True


PANELS = (
    Panel("test_intra", "VARIANCE: intra (test)"),
    Panel("test_inter", "VARIANCE: inter (test)"),
    Panel("term_active_ratio", "GREEDINESS: active ratio, terms", percent=True),
    Panel("gradient_active_ratio", "GREEDINESS: active ratio, gradient", percent=True),
    Panel("embedding_gradient", "GREEDINESS: gradient at the embedding (log)", log=True),
    Panel("recall_at_1", "RETRIEVAL: R@1 (test)", percent=True, from_zero=False),
)
_GAP_PIXELS = 42
_MARGIN = {"l": 52, "r": 14, "t": 30, "b": 44}


def curves(results: Results, dataset: str) -> go.Figure:
    """A panel a quantity, a colour a loss: mean over seeds as a line, its 95 % interval as a band.

    The legend switches a loss off in all panels at once. Dashed grey is the untrained head, dotted grey
    the frozen features. A tuned loss is a dotted line in its colour, without a band, and off at first.
    """
    bands, lines = [], []
    losses = losses_and_tuned(results)
    for loss in losses:
        rows = [r for r in results.epochs if r["dataset"] == dataset and r["loss"] == loss]
        color, in_legend = color_of(loss, losses), False
        for number, panel in enumerate(PANELS, start=1):
            points = _points(rows, panel)
            if not points:
                continue
            shared = _shared(loss, number)
            if is_tuned(loss):
                shared["visible"] = False
            elif any(over.half_width for _, over in points):
                bands.append(_band(points, panel, color, shared))
            dash = _dash(loss, color)
            lines.append(_line(points, panel, color, dash, {**shared, "showlegend": not in_legend}))
            in_legend = True
    figure = go.Figure([*bands, *lines], layout=_layout())  # no band may cover a line
    _add_references(figure, results, dataset)
    _set_ticks(figure, results, dataset)
    return figure


def _set_ticks(figure: go.Figure, results: Results, dataset: str) -> None:
    """Whole epochs where they are few; whole decades where there are any."""
    rows = [r for r in results.epochs if r["dataset"] == dataset]
    if max((int(r["epoch"]) for r in rows), default=0) <= 10:
        figure.update_xaxes(dtick=1)
    for number, panel in enumerate(PANELS, start=1):
        values = [v for r in rows if (v := known(r.get(panel.column))) is not None and v > 0]
        if panel.log and values and max(values) >= 10 * min(values):
            figure.layout[f"yaxis{number}"].dtick = 1


def _points(rows: list[Any], panel: Panel) -> list[tuple[int, Interval]]:
    """(epoch, interval over seeds) where measured; in logarithms for a log panel, which leaves out zeros."""
    at: dict[int, list[float]] = {}
    for row in rows:
        value = known(row.get(panel.column))
        if value is not None and (value > 0 or not panel.log):
            at.setdefault(int(row["epoch"]), []).append(math.log10(value) if panel.log else value)
    found = {epoch: interval(values) for epoch, values in sorted(at.items())}
    return [(epoch, over) for epoch, over in found.items() if over is not None]


def _line(
    points: list[tuple[int, Interval]],
    panel: Panel,
    color: str,
    dash: str,
    shared: dict[str, Any],
) -> go.Scatter:
    unit: Unit = "percent" if panel.percent else "small"
    means = [_back(over.mean, panel) for _, over in points]
    return go.Scatter(
        x=[epoch for epoch, _ in points],
        y=means,
        mode="lines" if len(points) > 1 else "markers",
        line={"color": color, "width": 2, "dash": dash},
        marker={"color": color, "size": 7},
        text=[shown(mean, unit) for mean in means],
        hovertemplate="%{text}",
        **shared,
    )


def _dash(loss: str, color: str) -> str:
    if is_tuned(loss):
        return "dot"
    return "dash" if color in OWN_COLORS else "solid"


def _band(
    points: list[tuple[int, Interval]], panel: Panel, color: str, shared: dict[str, Any]
) -> go.Scatter:
    there = [epoch for epoch, _ in points]
    upper = [_clip(_back(over.high, panel), panel) for _, over in points]
    lower = [_clip(_back(over.low, panel), panel) for _, over in points]
    return go.Scatter(
        x=there + there[::-1],
        y=upper + lower[::-1],
        fill="toself",
        fillcolor=transparent(color, 0.11),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        **{**shared, "showlegend": False},
    )


def _add_references(figure: go.Figure, results: Results, dataset: str) -> None:
    last = max((int(r["epoch"]) for r in results.epochs if r["dataset"] == dataset), default=0)
    frozen = [r for r in results.references if r["dataset"] == dataset and r["reference"] == FROZEN]
    for name, dash in ((UNTRAINED, "dash"), (FROZEN, "dot")):
        in_legend = False
        for number, panel in enumerate(PANELS, start=1):
            over = (
                measured(results, dataset, UNTRAINED, panel.column)
                if name == UNTRAINED
                else interval(r.get(panel.column.removeprefix("test_")) for r in frozen)
            )
            if over is None or panel.log:
                continue
            figure.add_trace(
                go.Scatter(
                    x=[0, max(last, 1)],
                    y=[_rounded(over.mean)] * 2,
                    mode="lines",
                    line={"color": GREY, "width": 1.5, "dash": dash},
                    hoverinfo="skip",
                    **{**_shared(name, number), "showlegend": not in_legend},
                )
            )
            in_legend = True


def _shared(loss: str, number: int) -> dict[str, Any]:
    name = plot_text(display_name(loss))
    return {
        "name": name,
        "legendgroup": plot_text(loss),
        "xaxis": "x",
        "yaxis": "y" if number == 1 else f"y{number}",
    }


def _layout() -> dict[str, Any]:
    count = len(PANELS)
    inner = count * PANEL_PIXELS + (count - 1) * _GAP_PIXELS
    layout: dict[str, Any] = {
        "template": TEMPLATE,
        "height": inner + _MARGIN["t"] + _MARGIN["b"],
        "margin": _MARGIN,
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1 + 40 / inner, "yanchor": "bottom", "x": 0},
        "xaxis": {
            "title": {"text": "epoch (0 is before training)"},
            "anchor": f"y{count}",
            "rangemode": "tozero",
            "spikecolor": GREY,
            "spikethickness": 1,
        },
        "annotations": [],
    }
    for index, panel in enumerate(PANELS):
        top = 1 - index * (PANEL_PIXELS + _GAP_PIXELS) / inner
        axis: dict[str, Any] = {
            "domain": [max(0.0, top - PANEL_PIXELS / inner), top],
            "anchor": "x",
            "nticks": 5,
        }
        if panel.log:
            axis |= {"type": "log", "exponentformat": "power"}
        else:
            axis |= {
                "rangemode": "tozero" if panel.from_zero else "normal",
                "tickformat": "~%" if panel.percent else None,
            }
        layout["yaxis" if index == 0 else f"yaxis{index + 1}"] = axis
        layout["annotations"].append(panel_title(panel.title, top))
    return layout


def _back(value: float, panel: Panel) -> float:
    return _rounded(10**value if panel.log else value)


def _clip(value: float, panel: Panel) -> float:
    """Bands end where the quantity does: a share of 105 % would be drawn for nothing."""
    return value if panel.log else max(0.0, min(1.0, value) if panel.percent else value)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
