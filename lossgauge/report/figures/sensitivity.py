"""Sensitivity of each loss to its settings: R@1 and intra at multiples of margin, temperature or scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lossgauge.claims.variants import SETTINGS, LossVariant, loss_variants
from lossgauge.portable import without_folders
from lossgauge.report.figures.style import (
    Chart,
    Figure,
    Trace,
    axis,
    five_digits,
    layout_axis,
    plot_text,
    stacked_panels,
    transparent,
)
from lossgauge.report.naming import color_of, display_name, key_of
from lossgauge.results.columns import COLUMNS, Column
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import interval
from lossgauge.stats.number_format import shown_interval

DRAWN = ("recall_at_1", "test_intra")
DASHES = {"margin": "solid", "temperature": "dash", "scale": "dot"}
"""A loss may have both a margin and a scale."""
_IN_WORDS = {"solid": "solid", "dash": "dashed", "dot": "dotted"}


class _Line(NamedTuple):
    loss: Loss
    setting: str
    points: Sequence[tuple[float, LossVariant]]
    """Each multiple with the runs at it, ascending."""


def sensitivity(view: StudyView, dataset: str) -> Figure | None:
    """A panel for each quantity, with a line over the multiples for each loss and setting; None if no setting was varied.

    At 1, each loss is as in the plan. Whiskers are 95 % intervals over seeds.
    """
    lines = _lines(view, dataset)
    if not lines:
        return None
    data: list[Trace] = []
    for number, column in enumerate(DRAWN, start=1):
        in_legend: set[Loss] = set()
        for line in lines:
            color = color_of(line.loss, view.losses)
            if (trace := _trace(line, COLUMNS[column], color)) is None:
                continue
            show = number == 1 and line.loss not in in_legend
            axes = {"xaxis": axis("x", number), "yaxis": axis("y", number)}
            data.append({**trace, **axes, "showlegend": show})
            in_legend.add(line.loss)
    factors = sorted({factor for line in lines for factor, _ in line.points})
    return {"data": data, "layout": _layout(factors)}


def varied_losses(view: StudyView, dataset: str) -> list[Loss]:
    """Losses with a run at a multiple of a setting, in the order of the tables."""
    return list(dict.fromkeys(line.loss for line in _lines(view, dataset)))


def note(view: StudyView, dataset: str) -> str:
    """The line style of each setting."""
    drawn = {line.setting for line in _lines(view, dataset)}
    settings = [setting for setting in SETTINGS if setting in drawn]
    dashes = ", ".join(f"{_IN_WORDS[DASHES[setting]]} is {setting}" for setting in settings)
    return f"Lines: {dashes}." if dashes else ""


CHART = Chart(
    key="sensitivity",
    label="R@1 and intra at multiples of the settings",
    draw=sensitivity,
    note=note,
    losses=varied_losses,
)


def _lines(view: StudyView, dataset: str) -> list[_Line]:
    by_loss = loss_variants(view, dataset, [loss.base for loss in view.losses]).by_loss
    lines = []
    for loss in view.losses:
        variants = by_loss.get(loss.base, ())
        default = [(1.0, v) for v in variants if v.kind == "default"]
        for setting in dict.fromkeys(v.setting for v in variants if v.setting is not None):
            varied = [(v.factor or 0.0, v) for v in variants if v.setting == setting]
            points = sorted([*default, *varied], key=lambda point: point[0])
            lines.append(_Line(loss, setting, points))
    return lines


def _trace(line: _Line, column: Column, color: str) -> Trace | None:
    points = [
        (factor, variant.title, over)
        for factor, variant in line.points
        if (over := interval(row.get(column.name) for row in variant.by_seed.values())) is not None
    ]
    if not points:
        return None
    return {
        "type": "scatter",
        "x": [factor for factor, _, _ in points],
        "y": [five_digits(over.mean) for *_, over in points],
        "error_y": {
            "array": [float(f"{over.half_width or 0.0:.3g}") for *_, over in points],
            "color": transparent(color, 0.5),
            "thickness": 1.2,
            "width": 0,
        },
        "mode": "lines+markers",
        "line": {"color": color, "width": 2, "dash": DASHES.get(line.setting, "solid")},
        "marker": {"color": color, "size": 6},
        "text": [
            f"{plot_text(without_folders(title))}: {shown_interval(over, column.unit)}"
            for _, title, over in points
        ],
        "hovertemplate": "%{text}",
        "name": plot_text(display_name(line.loss)),
        "legendgroup": plot_text(key_of(line.loss)),
    }


def _layout(factors: Sequence[float]) -> dict[str, Any]:
    columns = [COLUMNS[name] for name in DRAWN]
    layout = stacked_panels([f"{column.title} (test)" for column in columns], gap=84, bottom=48)
    for number, column in enumerate(columns, start=1):
        layout[layout_axis("x", number)] = {
            "anchor": axis("y", number),
            "title": {"text": "multiple of the setting in the plan"},
            "type": "log",
            "tickvals": factors,
            "ticktext": [f"{factor:g}" for factor in factors],
        }
        layout[layout_axis("y", number)] |= {"nticks": 6}
        if column.unit == "percent":
            layout[layout_axis("y", number)]["tickformat"] = "~%"
    return {**layout, "hovermode": "closest"}
