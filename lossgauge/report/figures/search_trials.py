"""The trials of a search: the values of each setting, and their results on the validation slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lossgauge.report.figures.style import (
    Chart,
    Figure,
    Trace,
    axis,
    five_digits,
    layout_axis,
    plot_text,
    stacked_panels,
)
from lossgauge.report.naming import color_of, display_name, key_of
from lossgauge.report.text.selection import judged_by
from lossgauge.results.view import Loss, StudyView, in_order
from lossgauge.stats.intervals import known
from lossgauge.types import Record

_PREFIX = "setting_"


def search_trials(view: StudyView, dataset: str) -> Figure | None:
    """A panel for each searched setting, a dot for each trial, a ring for the chosen one.

    None if no trial has a result. The axis of a setting is logarithmic if all its values are above 0. Failed
    trials are not drawn.
    """
    rows = [row for row in view.trials(dataset) if known(row.get("objective")) is not None]
    settings = [name for name in _settings(rows) if len({known(row.get(name)) for row in rows}) > 1]
    if not settings:
        return None
    layout = _layout(settings, judged_by(view))
    chosen = {loss: row.get("trial") for loss, row in view.searches(dataset).items()}
    data: list[Trace] = []
    for number, setting in enumerate(settings, start=1):
        of_setting = [row for row in rows if known(row.get(setting)) is not None]
        values = [row[setting] for row in of_setting]
        if min(values) > 0:
            ticks = _ticks(min(values), max(values))
            labels = [f"{tick:g}" for tick in ticks]
            layout[layout_axis("x", number)] |= {
                "type": "log",
                "tickvals": ticks,
                "ticktext": labels,
            }
        for loss in in_order({view.planned_loss(row) for row in of_setting}):
            of_loss = [row for row in of_setting if view.planned_loss(row) == loss]
            data.append(
                {
                    **_dots(of_loss, setting, color_of(loss, view.losses), chosen.get(loss)),
                    "name": plot_text(display_name(loss)),
                    "legendgroup": plot_text(key_of(loss)),
                    "showlegend": number == 1,
                    "xaxis": axis("x", number),
                    "yaxis": axis("y", number),
                }
            )
    return {"data": data, "layout": layout}


def searched_losses(view: StudyView, dataset: str) -> list[Loss]:
    """Losses with a trial on a dataset, in the order of the tables."""
    return in_order({view.planned_loss(row) for row in view.trials(dataset)})


CHART = Chart(
    key="search-trials",
    label="Trials",
    draw=search_trials,
    note=lambda view, dataset: (
        "A dot is a trial of one loss, a ring the chosen one. "
        "The same name of a setting may have another meaning in another loss."
    ),
    losses=searched_losses,
)


def _dots(rows: Sequence[Record], setting: str, color: str, chosen: object) -> Trace:
    is_chosen = [chosen is not None and row.get("trial") == chosen for row in rows]
    return {
        "type": "scatter",
        "x": [float(f"{known(row[setting]):.4g}") for row in rows],
        "y": [five_digits(row["objective"]) for row in rows],
        "mode": "markers",
        "marker": {
            "color": color,
            "size": [13 if best else 7 for best in is_chosen],
            "symbol": ["circle-open" if best else "circle" for best in is_chosen],
            "opacity": [1.0 if best else 0.65 for best in is_chosen],
            "line": {"width": [2.5 if best else 0 for best in is_chosen]},
        },
        "text": [f"trial {row.get('trial')}" for row in rows],
        "hovertemplate": "%{text}: %{x:.3g}, %{y:.1%}",
    }


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 in each decade of the values: plotly's default has too many ticks for a phone."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]


def _settings(rows: Sequence[Record]) -> list[str]:
    """Columns of the searched settings that are numbers, the learning rate first."""
    columns = {
        column
        for row in rows
        for column, value in row.items()
        if column.startswith(_PREFIX) and known(value) is not None
    }
    return sorted(columns, key=lambda column: (column != f"{_PREFIX}learning_rate", column))


def _layout(settings: Sequence[str], objective: str) -> dict[str, Any]:
    names = [setting.removeprefix(_PREFIX).replace("_", " ") for setting in settings]
    titles = [f"{objective} on validation, by {plot_text(name)}" for name in names]
    layout = stacked_panels(titles, gap=84, bottom=48)
    for number in range(1, len(settings) + 1):
        layout[layout_axis("x", number)] = {"anchor": axis("y", number), "title": {"text": ""}}
        layout[layout_axis("y", number)] |= {"nticks": 6, "tickformat": "~%"}
    return {**layout, "hovermode": "closest"}
