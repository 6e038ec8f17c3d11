"""What a section of the page holds: tables, figures and the legend that switches their losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from lossgauge.report.contents import datasets_of, losses_and_tuned, losses_of
from lossgauge.report.embed_json import figure_json
from lossgauge.report.figures import curves, not_in_plane, plane, response, trials
from lossgauge.report.figures.search_trials import searched_losses
from lossgauge.report.figures.sensitivity import settings_drawn, varied_losses
from lossgauge.report.figures.training_curves import FROZEN
from lossgauge.report.naming import GREY, UNTRAINED, color_of, is_tuned
from lossgauge.report.tables import loss_table
from lossgauge.report.text.tuning import tuning
from lossgauge.results.columns import FURTHER, GREEDINESS, RETRIEVAL, VARIANCE, Column
from lossgauge.stats.intervals import known
from lossgauge.types import Record, Results

TABLES = (
    ("Retrieval and VARIANCE: the space at the end", (*RETRIEVAL, *VARIANCE)),
    ("GREEDINESS: how the loss spends its updates", GREEDINESS),
    ("Further readings", FURTHER),
)
SELECTED = "selected_epoch"


class LegendEntry(NamedTuple):
    """A button that shows and hides what has its group's name."""

    group: str
    color: str
    kind: str = "default"
    """`default`, `tuned` (hidden at first) or `reference`."""


def tables(results: Results) -> list[tuple[str, tuple[Column, ...]]]:
    """`TABLES`, without the selected epoch where no run knows it: the last one counts then."""
    selected = any(known(row.get(SELECTED)) is not None for row in results.summaries)
    return [
        (title, tuple(m for m in metrics if selected or m.name != SELECTED))
        for title, metrics in TABLES
    ]


def dataset_section(results: Results, dataset: str) -> Record:
    """The tables, the curves and the plane of one dataset."""
    drawn = [r for r in results.epochs if r["dataset"] == dataset]
    summaries = [r for r in results.summaries if r["dataset"] == dataset]
    return {
        "dataset": dataset,
        "tables": [
            loss_table(results, dataset, metrics, title=title) for title, metrics in tables(results)
        ],
        "legend": _legend(results, dataset, drawn),
        "curves": figure_json(curves(results, dataset)) if drawn else None,
        "plane": figure_json(plane(results, dataset)) if summaries else None,
        "not_in_plane": not_in_plane(results, dataset),
        "seeds": len({row["seed"] for row in summaries}),
    }


def _legend(results: Results, dataset: str, drawn: Sequence[Record]) -> list[LegendEntry]:
    there = {str(r["loss"]) for r in drawn}
    losses = losses_of(results)
    entries = [
        LegendEntry(loss, color_of(loss, losses), "tuned" if is_tuned(loss) else "default")
        for loss in losses_and_tuned(results)
        if loss in there
    ]
    of_dataset = [r for r in results.summaries if r["dataset"] == dataset]
    if any(r["loss"] == UNTRAINED for r in of_dataset):
        entries.append(LegendEntry(UNTRAINED, GREY, "reference"))
    if any(r["dataset"] == dataset and r["reference"] == FROZEN for r in results.references):
        entries.append(LegendEntry(FROZEN, GREY, "reference"))
    return entries


def tuning_sections(results: Results) -> list[Record]:
    """Default against tuned, a dataset each, with the trials as a figure where there are any."""
    found = []
    for dataset in datasets_of(results):
        if (compared := tuning(results, dataset)) is not None:
            figure = trials(results, dataset)
            names = searched_losses(results, dataset)
            found.append(_with_figure({"tuning": compared}, results, figure, names))
    return found


def response_sections(results: Results) -> list[Record]:
    """What each loss does as its settings are varied, a dataset each that has such runs."""
    found = []
    for dataset in datasets_of(results):
        if (figure := response(results, dataset)) is not None:
            about = {"dataset": dataset, "settings": settings_drawn(results, dataset)}
            names = varied_losses(results, dataset)
            found.append(_with_figure(about, results, figure, names))
    return found


def _with_figure(
    about: Record, results: Results, figure: go.Figure | None, names: Sequence[str]
) -> Record:
    legend = [LegendEntry(name, color_of(name, losses_of(results))) for name in names]
    drawn = None if figure is None else figure_json(figure)
    return {**about, "figure": drawn, "legend": legend}
