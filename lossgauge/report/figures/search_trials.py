"""The trials of a search: the values of each setting, and their results on the validation slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossgauge.report.figures.style import (
    Chart,
    Figure,
    Numbers,
    Trace,
    axis,
    five_digits,
    layout_axis,
    log_ticks,
    panel_grid,
    plot_text,
)
from lossgauge.report.naming import color_of, display_name, key_of, symbol_of
from lossgauge.report.text.selection import judged_by
from lossgauge.results.view import Loss, StudyView, in_order
from lossgauge.stats.intervals import known
from lossgauge.stats.number_format import short, shown
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
            layout[layout_axis("x", number)] |= log_ticks(min(values), max(values))
        for loss in in_order({view.planned_loss(row) for row in of_setting}):
            of_loss = [row for row in of_setting if view.planned_loss(row) == loss]
            color, symbol = color_of(loss, view.losses), symbol_of(loss, view.losses)
            data.append(
                {
                    **_dots(of_loss, setting, color, symbol, chosen.get(loss)),
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


def numbers(view: StudyView, dataset: str) -> list[Numbers]:
    """Every trial with a result: its settings and its objective."""
    rows = [row for row in view.trials(dataset) if known(row.get("objective")) is not None]
    settings = _settings(rows)
    cells = tuple(
        (
            f"{display_name(view.planned_loss(row))}, trial {row.get('trial')}",
            *("—" if (v := known(row.get(name))) is None else short(v, 4) for name in settings),
            shown(row["objective"], "percent"),
        )
        for row in rows
    )
    names = (setting.removeprefix(_PREFIX).replace("_", " ") for setting in settings)
    titles = ("loss", *names, f"{judged_by(view)} on validation")
    return [Numbers(f"Trials on {dataset}", titles, cells)]


CHART = Chart(
    key="search-trials",
    label="Trials",
    draw=search_trials,
    note=lambda view, dataset: (
        "A mark is a trial of one loss, a large hollow one the chosen trial. "
        "The same name of a setting may have another meaning in another loss."
    ),
    losses=searched_losses,
    numbers=numbers,
)


def _dots(rows: Sequence[Record], setting: str, color: str, symbol: str, chosen: object) -> Trace:
    is_chosen = [chosen is not None and row.get("trial") == chosen for row in rows]
    return {
        "type": "scatter",
        "x": [float(f"{known(row[setting]):.4g}") for row in rows],
        "y": [five_digits(row["objective"]) for row in rows],
        "mode": "markers",
        "marker": {
            "color": color,
            "size": [13 if best else 8 for best in is_chosen],
            "symbol": [f"{symbol}-open" if best else symbol for best in is_chosen],
            "opacity": [1.0 if best else 0.65 for best in is_chosen],
            "line": {"width": [2.5 if best else 0 for best in is_chosen]},
        },
        "text": [f"trial {row.get('trial')}" for row in rows],
        "hovertemplate": "%{text}: %{x:.3g}, %{y:.1%}",
    }


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
    layout = panel_grid(titles, gap=64, bottom=36)
    for number in range(1, len(settings) + 1):
        layout[layout_axis("y", number)] |= {"nticks": 6, "tickformat": "~%"}
    return {**layout, "hovermode": "closest"}
