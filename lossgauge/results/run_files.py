"""Data of a study's finished runs beside their rows: what each depends on, its tables, its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lossgauge.diagnostics.references import CENTERED, FROZEN
from lossgauge.errors import InputError, nearest
from lossgauge.files import read_table
from lossgauge.results.examples import Examples, read_examples
from lossgauge.results.layout import Layout
from lossgauge.types import Record


class RunFiles(NamedTuple):
    """Those of one folder. Trials have no such data."""

    folder: Path
    """Of the study."""
    variants: tuple[str, ...]
    """One row for each finished run, in the order of study.json; `sensitivity` runs are in `results.sensitivity`."""
    configs: Mapping[str, Record]
    """Run → everything that it depends on."""
    epochs: Mapping[str, pa.Table]
    """Run → its rows of epochs."""
    schemas: Mapping[str, Mapping[str, pa.Schema]]
    """Run → `steps`, `classes` and `queries` → its columns; the rows stay on disk, because they are many."""

    def schema(self, run: str, table: str) -> pa.Schema:
        return self.epochs[run].schema if table == "epochs" else self.schemas[run][table]

    def queries(self, run: str) -> pa.Table:
        """One row for each test query of a run: the table is read at each call, and not kept."""
        if run not in self.schemas:
            raise InputError(f"the study has no finished run {run!r}{nearest(run, self.schemas)}")
        return read_table(Layout(self.folder).table(run, "queries"))

    def classes(self, run: str) -> list[Record]:
        """One row for each side and class of a run, read at each call."""
        rows: list[Record] = read_table(Layout(self.folder).table(run, "classes")).to_pylist()
        return rows

    def step_count(self, run: str) -> int | None:
        """Updates of a finished run; None if its steps are not there."""
        path = Layout(self.folder).table(run, "steps")
        return int(pq.read_metadata(path).num_rows) if path.is_file() else None

    def has_unseen_classes(self, run: str) -> bool:
        """Whether a class of the test side is not on the training side of a finished run."""
        classes = read_table(Layout(self.folder).table(run, "classes")).select(["side", "label"])
        by_side: dict[str, set[int]] = {"train": set(), "test": set()}
        for side, label in zip(*classes.to_pydict().values(), strict=True):
            by_side[side].add(label)
        return not by_side["test"] <= by_side["train"]

    def frozen_queries(self, dataset: str) -> pa.Table:
        """The queries of the frozen features of a dataset, read at each call."""
        return read_table(Layout(self.folder).frozen_queries(dataset))

    def examples(self, dataset: str) -> Examples | None:
        """What a page shows of the rows of a dataset, read at each call; None if the study wrote none.

        Raises CacheError if a file is damaged.
        """
        return read_examples(Layout(self.folder), dataset)

    def has_queries(self, row: Record) -> bool:
        """Whether a run, or the reference space of a row, kept its queries."""
        if "reference" in row:
            path = self._of_reference(row)
            return path is not None and path.exists()
        tables = self.schemas.get(str(row.get("run")), {})
        return "queries" in tables and "query" in tables["queries"].names  # no row, no column

    def queries_of(self, row: Record, columns: Sequence[str]) -> pa.Table:
        """Some columns of the queries of a row that has them, without those that are not measured in this study."""
        if "reference" in row:
            path = self._of_reference(row)
            assert path is not None
            table = read_table(path)
        else:
            table = self.queries(str(row["run"]))
        return table.select([name for name in columns if name in table.column_names])

    def _of_reference(self, row: Record) -> Path | None:
        """The queries of a reference space; None for one that keeps none."""
        layout, dataset = Layout(self.folder), str(row["dataset"])
        if row["reference"] == FROZEN:
            return layout.frozen_queries(dataset)
        return layout.centered_queries(dataset) if row["reference"] == CENTERED else None
