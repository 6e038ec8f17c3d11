"""Sensitivity of each loss to its settings: retrieval and the space at multiples of margin, temperature or scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lossgauge.claims.variants import SETTINGS, LossVariant, loss_variants
from lossgauge.portable import without_folders
from lossgauge.report.figures.style import (
    Chart,
    Figure,
    Numbers,
    Trace,
    axis,
    five_digits,
    framed,
    layout_axis,
    panel_grid,
    plot_text,
    transparent,
)
from lossgauge.report.naming import color_of, display_name, key_of, symbol_of
from lossgauge.results.columns import Column
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import Interval, interval
from lossgauge.stats.number_format import shown_interval

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
    for number, column in enumerate(_drawn(view), start=1):
        in_legend: set[Loss] = set()
        for line in lines:
            look = color_of(line.loss, view.losses), symbol_of(line.loss, view.losses)
            if (trace := _trace(line, column, *look)) is None:
                continue
            show = number == 1 and line.loss not in in_legend
            axes = {"xaxis": axis("x", number), "yaxis": axis("y", number)}
            data.append({**trace, **axes, "showlegend": show})
            in_legend.add(line.loss)
    factors = sorted({factor for line in lines for factor, _ in line.points})
    return {"data": data, "layout": _layout(_drawn(view), factors, data)}


def _drawn(view: StudyView) -> tuple[Column, Column]:
    return view.retrieval[0], view.measures.space[0]


def varied_losses(view: StudyView, dataset: str) -> list[Loss]:
    """Losses with a run at a multiple of a setting, in the order of the tables."""
    return list(dict.fromkeys(line.loss for line in _lines(view, dataset)))


def note(view: StudyView, dataset: str) -> str:
    """The line style of each setting."""
    drawn = {line.setting for line in _lines(view, dataset)}
    settings = [setting for setting in SETTINGS if setting in drawn]
    dashes = ", ".join(f"{_IN_WORDS[DASHES[setting]]} is {setting}" for setting in settings)
    return f"Lines: {dashes}. A wide interval is cut at the edge." if dashes else ""


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


def numbers(view: StudyView, dataset: str) -> list[Numbers]:
    """A table for each panel: a row for each loss and setting, a column for each multiple."""
    lines = _lines(view, dataset)
    factors = sorted({factor for line in lines for factor, _ in line.points})
    tables = []
    for column in _drawn(view):
        rows = []
        for line in lines:
            at = {factor: over for factor, _, over in _measured(line, column)}
            cells = (
                shown_interval(at[factor], column.unit) if factor in at else "—"
                for factor in factors
            )
            rows.append((f"{display_name(line.loss)}, {line.setting}", *cells))
        titles = ("loss, setting", *(f"× {factor:g}" for factor in factors))
        tables.append(Numbers(f"{column.title} (test) on {dataset}", titles, tuple(rows)))
    return tables


CHART = Chart(
    key="sensitivity",
    label="Retrieval and the space at multiples of the settings",
    draw=sensitivity,
    note=note,
    numbers=numbers,
    losses=varied_losses,
)


def _measured(line: _Line, column: Column) -> list[tuple[float, str, Interval]]:
    """Multiple, title and interval of each point of a line that has the column."""
    return [
        (factor, variant.title, over)
        for factor, variant in line.points
        if (over := interval(row.get(column.name) for row in variant.by_seed.values())) is not None
    ]


def _trace(line: _Line, column: Column, color: str, symbol: str) -> Trace | None:
    points = _measured(line, column)
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
        "marker": {"color": color, "size": 8, "symbol": symbol},
        "text": [
            f"{plot_text(without_folders(title))}: {shown_interval(over, column.unit)}"
            for _, title, over in points
        ],
        "hovertemplate": "%{text}",
        "name": plot_text(display_name(line.loss)),
        "legendgroup": plot_text(key_of(line.loss)),
    }


def _layout(
    columns: Sequence[Column], factors: Sequence[float], data: Sequence[Trace]
) -> dict[str, Any]:
    layout = panel_grid([f"{column.title} (test)" for column in columns], gap=84, bottom=48)
    for number, column in enumerate(columns, start=1):
        layout[layout_axis("x", number)] |= {
            "title": {"text": "multiple of the setting in the plan"},
            "type": "log",
            "tickvals": factors,
            "ticktext": [f"{factor:g}" for factor in factors],
        }
        y = layout[layout_axis("y", number)]
        y |= {"nticks": 6}
        means = [y for trace in data if trace["yaxis"] == axis("y", number) for y in trace["y"]]
        if means:  # an interval of two seeds is cut, so that the lines have room
            y["range"] = [five_digits(end) for end in framed(means, least=0.02, margin=0.15)]
        if column.unit == "percent":
            y["tickformat"] = "~%"
    return {**layout, "hovermode": "closest"}
