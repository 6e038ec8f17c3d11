"""The three tables of the paper as data: retrieval, the space (VARIANCE) and GREEDINESS of each loss on each dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lossgauge.report.naming import display_name, short_name
from lossgauge.report.tables import NOT_KNOWN, Cell, Row, Table, loss_table
from lossgauge.results.columns import Column
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval


def tables_of(view: StudyView) -> dict[str, tuple[Column, ...]]:
    """Name of a table → its columns in this study: the second is VARIANCE of classes, and the space of queries and documents."""
    of = view.measures
    return {
        "retrieval": of.retrieval,
        of.space_name.lower(): of.space,
        "greediness": of.greediness,
    }


TITLES = {
    "retrieval": "Retrieval",
    "variance": "VARIANCE",
    "space": "Space",
    "greediness": "GREEDINESS",
}

CAPTION = (
    "Mean over {seeds}, ± half width of the 95 % interval over {over}; none {without}. Bold: the best loss, "
    "or not clearly different from it. Tuned losses{unranked} are not ranked."
)


class PaperTable(NamedTuple):
    """One of the three tables on one dataset, as text with the digits that a reader can use."""

    name: str
    dataset: str
    caption: str
    table: Table
    """Titles and cells without units."""
    settings: tuple[tuple[str, str], ...] = ()
    """Names of losses and their settings in the plan, in the first table of a dataset: where the name alone says which loss it is."""

    @property
    def headers(self) -> list[str]:
        """`R@1 (%)`."""
        return [f"{column.title}{_UNIT.get(column.unit, '')}" for column in self.table.columns]


class Numbers(NamedTuple):
    """A loss, the baseline or a reference space on one dataset, in full precision."""

    dataset: str
    loss: str
    kind: str
    """`default`, `tuned`, `baseline` or `reference`."""
    settings: str
    seeds: int
    """0 of a reference space."""
    intervals: dict[str, Interval | None]
    """By column; None if it is not known."""


_UNIT = {"percent": " (%)", "epochs": " (epochs)", "milliseconds": " (ms)", "seconds": " (s)"}


def paper_tables(view: StudyView) -> Iterator[PaperTable]:
    """Each of the three tables on each dataset. Rows without a number are left out."""
    for dataset in view.datasets:
        count = len(view.seeds(dataset))
        seeds = "one seed" if count == 1 else f"{count} seeds"
        untrained = ", the untrained head" if _has_untrained(view, dataset) else ""
        for place, (name, columns) in enumerate(tables_of(view).items()):
            table = _measured(loss_table(view, dataset, columns))
            rows = tuple(_short_row(view, row) for row in table.rows)
            over = _over(view, dataset, columns[0])
            caption = CAPTION.format(
                seeds=seeds,
                over=over,
                without="for one seed or without spread"
                if over == "new seeds"
                else "without spread",
                unranked=f"{untrained} and the spaces without training",
            )
            settings = tuple(_settings(view, rows)) if place == 0 else ()
            yield PaperTable(name, dataset, caption, table._replace(rows=rows), settings)


def _has_untrained(view: StudyView, dataset: str) -> bool:
    return bool(view.untrained(dataset)) or not view.of_pairs


def _over(view: StudyView, dataset: str, column: Column) -> str:
    """What the intervals of a table are over, by its first column."""
    of_losses = (view.interval(dataset, loss, column.name) for loss in view.losses)
    return next((of.over for of in of_losses if of and of.half_width is not None), "new seeds")


def _short_row(view: StudyView, row: Row) -> Row:
    name = row.name if row.loss is None else short_name(row.loss, view.losses)
    return row._replace(name=name, cells=tuple(map(_for_paper, row.cells)))


def _settings(view: StudyView, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Of the losses whose rows have lost theirs, each once."""
    for row in rows:
        if row.loss is None or row.loss.tuned or row.name == display_name(row.loss):
            continue
        yield row.name, row.loss.base.removeprefix(row.loss.name)[1:-1]  # without parentheses


def _measured(table: Table) -> Table:
    """Without the columns that no row knows."""
    places = [
        place
        for place, _ in enumerate(table.columns)
        if any(row.cells and row.cells[place].text != NOT_KNOWN for row in table.rows)
    ]
    rows = (
        row._replace(cells=tuple(row.cells[place] for place in places) if row.cells else ())
        for row in table.rows
    )
    return table._replace(columns=tuple(table.columns[at] for at in places), rows=tuple(rows))


def _for_paper(cell: Cell) -> Cell:
    """Without the unit, which is in the header, and without the reason for a missing ±, which is in the caption."""
    parts = [part for part in cell.detail.split(", ") if part not in _NO_INTERVAL]
    return cell._replace(text=cell.text.partition("\u00a0")[0], detail=", ".join(parts))


_NO_INTERVAL = ("one seed", "no spread between the seeds")


def paper_numbers(view: StudyView, columns: tuple[Column, ...]) -> Iterator[Numbers]:
    """The same rows with all digits."""
    for dataset in view.datasets:
        for loss in (*view.ranked(dataset, view.losses_and_tuned), *view.untrained(dataset)):
            if runs := view.runs(dataset, loss):
                found = {c.name: view.interval(dataset, loss, c.name) for c in columns}
                settings = "; ".join(
                    dict.fromkeys(str(row.get("settings") or "") for row in runs.values())
                )
                yield Numbers(dataset, display_name(loss), _kind(loss), settings, len(runs), found)
        for row in view.references(dataset):
            values = {c.name: view.reference_interval(dataset, row, c.name) for c in columns}
            yield Numbers(dataset, view.name_of(row), "reference", "", 0, values)


def _kind(loss: Loss) -> str:
    return "baseline" if loss == BASELINE else "tuned" if loss.tuned else "default"
