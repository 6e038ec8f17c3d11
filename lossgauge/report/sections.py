"""What each section of the page holds: tables, charts and the legends that hide and show their losses.

A new chart is a file in `figures/` and its place in `DATASET_CHARTS` here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup

from lossgauge.diagnostics.references import FROZEN
from lossgauge.report.embed_json import embed_json
from lossgauge.report.figures import (
    retrieval,
    search_trials,
    sensitivity,
    tradeoff,
    training_curves,
)
from lossgauge.report.figures.style import Chart, Numbers
from lossgauge.report.naming import GREY, color_of, display_name, key_of, symbol_of
from lossgauge.report.tables import Table, gain_table, loss_table
from lossgauge.report.text.interval_notes import table_notes
from lossgauge.report.text.tuning import Tuning, tuning
from lossgauge.results.columns import Column
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import known

DATASET_CHARTS = (training_curves.CHART, tradeoff.CHART)
"""Charts of every dataset's section, below its tables, with one legend. The trade-off is about variance inside classes."""

ONLY_WHERE_KNOWN = ("selected_epoch", "memory_drift")


class LegendEntry(NamedTuple):
    """A button that shows and hides what has its key."""

    key: str
    name: str
    color: str
    kind: str = "default"
    """`default`, `tuned` (hidden at first) or `reference`."""
    symbol: str = "circle"


class Drawn(NamedTuple):
    """A chart of one dataset, ready for the page."""

    chart: Chart
    dataset: str
    id: str
    note: str
    content: Markup
    legend: tuple[LegendEntry, ...]
    """Empty where it shares that of its section."""
    numbers: tuple[Numbers, ...]
    """What it draws, as tables."""


class RetrievalTables(NamedTuple):
    """Retrieval of every loss and of the raw model, and the differences."""

    dataset: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    """How to read them."""


class DatasetSection(NamedTuple):
    dataset: str
    tables: tuple[Table, ...]
    further: tuple[Table, ...]
    legend: tuple[LegendEntry, ...]
    charts: tuple[Drawn, ...]
    seeds: int


def dataset_sections(view: StudyView) -> list[DatasetSection]:
    """The tables and the charts of each dataset."""
    further = _further_tables(view)
    charts = DATASET_CHARTS if view.measures.judges_classes else DATASET_CHARTS[:1]
    return [
        DatasetSection(
            dataset,
            tuple(
                loss_table(view, dataset, columns, title=title)
                for title, columns in view.measures.tables
            ),
            tuple(loss_table(view, dataset, columns, title=title) for title, columns in further),
            _legend(view, dataset),
            tuple(drawn for chart in charts if (drawn := _draw(chart, view, dataset))),
            len({seed for loss in _all(view) for seed in view.runs(dataset, loss)}),
        )
        for dataset in view.datasets
    ]


def retrieval_tables(view: StudyView) -> list[RetrievalTables]:
    """Of queries and documents, what the first screen shows of each dataset; of classes the chart says it."""
    if not view.of_pairs:
        return []
    columns = view.measures.retrieval
    titles = "Test queries", f"Gain over the {view.measures.raw}, in points"
    found = []
    for dataset in view.datasets:
        levels = loss_table(view, dataset, columns, title=titles[0])
        gains = gain_table(view, dataset, columns, title=titles[1])
        if levels.rows:
            tables = (levels, gains) if gains.rows else (levels,)
            found.append(RetrievalTables(dataset, tables, table_notes(view, dataset)))
    return found


def retrieval_charts(view: StudyView) -> list[Drawn]:
    """Retrieval of each loss, for each dataset with a result: the charts of the first screen."""
    return [drawn for dataset in view.datasets if (drawn := _draw(retrieval.CHART, view, dataset))]


def tuning_sections(view: StudyView) -> list[tuple[Tuning, Drawn | None]]:
    """Default against tuned for each dataset, and its trials where there are any."""
    return [
        (part, _draw(search_trials.CHART, view, dataset))
        for dataset in view.datasets
        if (part := tuning(view, dataset)) is not None
    ]


def sensitivity_sections(view: StudyView) -> list[Drawn]:
    """What each loss does when its settings are varied, for each dataset that has such runs."""
    return [
        drawn for dataset in view.datasets if (drawn := _draw(sensitivity.CHART, view, dataset))
    ]


def _further_tables(view: StudyView) -> list[tuple[str, tuple[Column, ...]]]:
    """The further tables, without the selected epoch (the last one counts then) and the memory's drift where no run knows it."""
    rows = [
        row
        for dataset in view.datasets
        for loss in _all(view)
        for row in view.runs(dataset, loss).values()
    ]
    unknown = {
        name for name in ONLY_WHERE_KNOWN if all(known(row.get(name)) is None for row in rows)
    }
    return [
        (title, tuple(column for column in columns if column.name not in unknown))
        for title, columns in view.measures.further
    ]


def _all(view: StudyView) -> tuple[Loss, ...]:
    return (*view.losses_and_tuned, BASELINE)


def _draw(chart: Chart, view: StudyView, dataset: str) -> Drawn | None:
    figure = chart.draw(view, dataset)
    if figure is None:
        return None
    losses = chart.losses(view, dataset) if chart.losses else ()
    return Drawn(
        chart,
        dataset,
        f"{chart.key}-{view.datasets.index(dataset) + 1}",
        chart.note(view, dataset),
        embed_json(figure),
        _entries(view, losses),
        tuple(chart.numbers(view, dataset)) if chart.numbers else (),
    )


def _legend(view: StudyView, dataset: str) -> tuple[LegendEntry, ...]:
    drawn = [loss for loss in view.losses_and_tuned if view.epochs(dataset, loss)]
    references = [key_of(loss) for loss in view.untrained(dataset)]
    if any(row["reference"] == FROZEN for row in view.references(dataset)):
        references.append(view.measures.raw)
    dashes = {key_of(BASELINE): "dash", view.measures.raw: "dot"}
    buttons = tuple(LegendEntry(n, n, GREY, "reference", dashes[n]) for n in references)
    return _entries(view, drawn) + buttons


def _entries(view: StudyView, losses: Iterable[Loss]) -> tuple[LegendEntry, ...]:
    return tuple(
        LegendEntry(
            key_of(loss),
            display_name(loss),
            color_of(loss, view.losses),
            "tuned" if loss.tuned else "default",
            symbol_of(loss, view.losses),
        )
        for loss in losses
    )
