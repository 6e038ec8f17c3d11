"""The three tables of the paper as data: retrieval, VARIANCE and GREEDINESS of each loss on each dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lossgauge.report.naming import display_name, short_name
from lossgauge.report.tables import NOT_KNOWN, Cell, Row, Table, loss_table
from lossgauge.results.columns import GREEDINESS, RETRIEVAL, VARIANCE, Column
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval, known
from lossgauge.types import Record

TABLES: dict[str, tuple[Column, ...]] = {
    "retrieval": RETRIEVAL,
    "variance": VARIANCE,
    "greediness": GREEDINESS,
}
"""Name of a table → its columns."""

TITLES = {"retrieval": "Retrieval", "variance": "VARIANCE", "greediness": "GREEDINESS"}

CAPTION = (
    "Mean over {seeds}, ± half width of the 95 % interval over new seeds; none for one seed or without spread. Bold: the best loss, "
    "or not clearly different from it. Tuned losses, the untrained head and the spaces without training are not ranked."
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
        for place, (name, columns) in enumerate(TABLES.items()):
            of_study = view.retrieval if columns is RETRIEVAL else columns
            table = _measured(loss_table(view, dataset, of_study))
            rows = tuple(_short_row(view, row) for row in table.rows)
            caption = CAPTION.format(seeds=seeds)
            settings = tuple(_settings(view, rows)) if place == 0 else ()
            yield PaperTable(name, dataset, caption, table._replace(rows=rows), settings)


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
        for loss in (*view.losses_and_tuned, BASELINE):
            if runs := view.runs(dataset, loss):
                found = {c.name: view.interval(dataset, loss, c.name) for c in columns}
                settings = "; ".join(
                    dict.fromkeys(str(row.get("settings") or "") for row in runs.values())
                )
                yield Numbers(dataset, display_name(loss), _kind(loss), settings, len(runs), found)
        for row in view.references(dataset):
            values = {column.name: _of_reference(row, column) for column in columns}
            yield Numbers(dataset, str(row["reference"]), "reference", "", 0, values)


def _of_reference(row: Record, column: Column) -> Interval | None:
    value = known(row.get(column.name.removeprefix("test_")))
    return None if value is None else Interval(value, None, 0)


def _kind(loss: Loss) -> str:
    return "baseline" if loss == BASELINE else "tuned" if loss.tuned else "default"
