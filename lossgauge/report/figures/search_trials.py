"""The trials of a search: what each setting was tried at, and what came of it on the validation slice."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from lossgauge.claims.variants import base_of
from lossgauge.report.contents import losses_of
from lossgauge.report.figures.style import TEMPLATE, plot_text, stacked
from lossgauge.report.naming import color_of, display_name, loss_order
from lossgauge.report.text.selection import judged_by
from lossgauge.stats.intervals import known
from lossgauge.types import Record, Results

_PREFIX = "setting_"


def trials(results: Results, dataset: str) -> go.Figure | None:
    """A panel a searched setting, a dot a trial, a ring the chosen one; None where no trial knows its result.

    A setting's axis is logarithmic where all its values are above 0. Failed trials are not drawn.
    """
    rows = [r for r in results.trials if r["dataset"] == dataset and _objective(r) is not None]
    names = [name for name in _settings(rows) if len({known(r.get(name)) for r in rows}) > 1]
    if not names:
        return None
    titles = [name.removeprefix(_PREFIX).replace("_", " ") for name in names]
    figure = go.Figure(layout=_layout([plot_text(title) for title in titles], judged_by(results)))
    chosen = {str(r["base"]): r.get("trial") for r in results.tuned if r["dataset"] == dataset}
    for number, name in enumerate(names, start=1):
        of_setting = [r for r in rows if known(r.get(name)) is not None]
        values = [r[name] for r in of_setting]
        if min(values) > 0:
            ticks = _ticks(min(values), max(values))
            figure.layout["xaxis" if number == 1 else f"xaxis{number}"].update(
                type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
            )
        for loss in loss_order(base_of(r) for r in of_setting):
            of_loss = [r for r in of_setting if base_of(r) == loss]
            color = color_of(loss, losses_of(results))
            figure.add_trace(_dots(of_loss, name, loss, number, color, chosen.get(loss)))
    return figure


def searched_losses(results: Results, dataset: str) -> list[str]:
    """Losses with a trial on a dataset, in their order."""
    return loss_order(base_of(r) for r in results.trials if r["dataset"] == dataset)


def _dots(
    rows: list[Record], name: str, loss: str, number: int, color: str, chosen: object
) -> go.Scatter:
    is_chosen = [chosen is not None and r.get("trial") == chosen for r in rows]
    return go.Scatter(
        x=[float(f"{known(r[name]):.4g}") for r in rows],
        y=[float(f"{_objective(r):.5g}") for r in rows],
        mode="markers",
        marker={
            "color": color,
            "size": [13 if best else 7 for best in is_chosen],
            "symbol": ["circle-open" if best else "circle" for best in is_chosen],
            "opacity": [1.0 if best else 0.65 for best in is_chosen],
            "line": {"width": [2.5 if best else 0 for best in is_chosen]},
        },
        text=[f"trial {r.get('trial')}" for r in rows],
        hovertemplate="%{text}: %{x:.3g}, %{y:.1%}",
        name=plot_text(display_name(loss)),
        legendgroup=plot_text(loss),
        showlegend=number == 1,
        xaxis="x" if number == 1 else f"x{number}",
        yaxis="y" if number == 1 else f"y{number}",
    )


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade that the values touch: plotly's own ticks crowd on a phone."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]


def _settings(rows: list[Record]) -> list[str]:
    """Columns of searched numbers, the learning rate first."""
    found = {
        key
        for row in rows
        for key, value in row.items()
        if key.startswith(_PREFIX) and known(value) is not None
    }
    return sorted(found, key=lambda key: (key != f"{_PREFIX}learning_rate", key))


def _objective(row: Record) -> float | None:
    return known(row.get("objective"))


def _layout(titles: list[str], objective: str) -> dict[str, Any]:
    layout = stacked([f"{objective} on validation, by {title}" for title in titles])
    axes = {name: {**axis, "tickformat": "~%"} for name, axis in layout.items() if "yaxis" in name}
    return {"template": TEMPLATE, "hovermode": "closest", **layout, **axes}
