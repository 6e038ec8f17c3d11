"""A study as flat Arrow tables, for data frames and exports.

Rows are in the order of study.json, and measured times are only in `timing`, so the same study
gives the same tables in whatever order its runs ended. Unknown values and NaN are null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import InputError, nearest
from lossgauge.files import damaged, read_table
from lossgauge.portable import portable_value
from lossgauge.results.columns import CLOCK_COLUMNS, RUN, RUN_TIMES, TABLES, Kind
from lossgauge.results.layout import FROZEN_QUERIES, RUN_TABLES, Layout
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import StudyView
from lossgauge.types import Record

CHUNK_ROWS = 100_000
"""About the number of rows in memory at a time, if a table is read run by run."""

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
_TYPES = {"text": _TEXT, "whole": _WHOLE, "real": _REAL}


class StudyTables:
    """The tables of TABLES of one study, without the folders of one machine."""

    def __init__(self, view: StudyView) -> None:
        """Raises InputError if the view was not read from a folder."""
        if view.files is None:
            raise InputError(
                "tables need the folder of a study, but these results were not read from one: use read_study"
            )
        self.view = view.portable()
        self._files: RunFiles = view.files
        self._references = view.results.references
        self.folder = view.files.folder
        self._layout = Layout(self.folder)

    @cached_property
    def _finished(self) -> list[Record]:
        """A row for each finished run, without trials, in the order of study.json."""
        results = self.view.results
        plain, varied = iter(results.summaries), iter(results.sensitivity)
        return [next(varied if v == "sensitivity" else plain) for v in self._files.variants]

    @property
    def runs(self) -> list[Record]:
        """One row for each finished run of variant `default`, `tuned` or `sensitivity`, without measured times."""
        return [_without_clock(row) for row in self._finished]

    @property
    def timing(self) -> list[Record]:
        """The measured times of each run in `runs`."""
        return [
            {name: row[name] for name in (*RUN, *RUN_TIMES) if name in row}
            for row in self._finished
        ]

    def config(self, row: Record) -> Record:
        """Everything that a run in `runs` depends on."""
        config: Record = portable_value(self._files.configs[row["run"]])
        return config

    def table(self, name: str) -> pa.Table:
        """A complete table. Raises CacheError if a file of a run was damaged after the folder was read."""
        return pa.concat_tables([self.schema(name).empty_table(), *self.chunks(name)])

    def schema(self, name: str) -> pa.Schema:
        """Columns of a table: those of TABLES first, then the others in the order of their first row.

        Raises InputError for an unknown table.
        """
        check_table(name)
        if name == FROZEN_QUERIES:
            return self._frozen_queries().schema
        if name not in RUN_TABLES:
            return as_table(self._rows(name), TABLES[name]).schema
        schemas = [self._files.schema(row["run"], name) for row in self._finished]
        fields = pa.unify_schemas([pa.schema([]), *schemas], promote_options="permissive")
        first = {column: _TYPES[kind] for column, kind in TABLES[name].items()}
        others = [
            field.with_type(_REAL) if pa.types.is_null(field.type) else field
            for field in fields.remove_metadata()
            if field.name not in first and field.name not in CLOCK_COLUMNS
        ]
        return pa.schema([*map(pa.field, first, first.values()), *others])

    def chunks(self, name: str) -> Iterator[pa.Table]:
        """A table in parts with one schema, so that the `steps` of a large study need not fit in memory."""
        if name == FROZEN_QUERIES:
            yield self._frozen_queries()
            return
        if name not in RUN_TABLES:
            yield as_table(self._rows(name), TABLES[name])
            return
        schema = self.schema(name)
        waiting: list[pa.Table] = []
        for row in self._finished:
            waiting.append(self.part(row, name, schema))
            if sum(part.num_rows for part in waiting) >= CHUNK_ROWS:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting).combine_chunks()

    def _frozen_queries(self) -> pa.Table:
        """The queries of the frozen features of every dataset that kept them, one table after the other."""
        first = TABLES[FROZEN_QUERIES]
        empty = pa.schema([(column, _TYPES[kind]) for column, kind in first.items()]).empty_table()
        parts = []
        for row in self._references:
            if row["reference"] != FROZEN or not self._files.has_queries(row):
                continue
            path = self._layout.frozen_queries(row["dataset"])
            table = self._files.frozen_queries(row["dataset"])
            columns = {
                name: _without_nan(
                    _cast(path, column, _TYPES[first[name]] if name in first else column.type)
                )
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
            dataset = pa.repeat(pa.scalar(portable_value(row["dataset"]), _TEXT), table.num_rows)
            parts.append(pa.table({"dataset": dataset, **columns}))
        return pa.concat_tables([empty, *parts], promote_options="permissive").combine_chunks()

    def _rows(self, name: str) -> Sequence[Record]:
        if name == "timing":
            return self.timing
        if name == "runs":
            return self.runs
        return [_without_clock(row) for row in getattr(self.view.results, name)]

    def part(self, row: Record, name: str, schema: pa.Schema) -> pa.Table:
        """The part of a table of RUN_TABLES that belongs to one of `runs`, with the columns of all runs."""
        path = self._layout.table(row["run"], name)
        table = self._files.epochs[row["run"]] if name == "epochs" else read_table(path)
        columns = []
        for field in schema:
            if field.name in RUN:
                columns.append(pa.repeat(pa.scalar(row[field.name], field.type), table.num_rows))
            elif field.name in table.column_names:
                columns.append(_without_nan(_cast(path, table.column(field.name), field.type)))
            else:
                columns.append(pa.nulls(table.num_rows, field.type))
        return pa.table(columns, schema=schema)


def check_table(name: str) -> None:
    """InputError, with the nearest name, if there is no such table."""
    if name not in TABLES:
        raise InputError(f"unknown table {name!r}{nearest(name, TABLES)}")


def _cast(path: Path, column: Any, kind: pa.DataType) -> Any:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise damaged(path, str(error)) from None


def _without_clock(row: Record) -> Record:
    """The rows without measured times and without tracebacks, which contain paths of one machine."""
    return {
        name: value
        for name, value in row.items()
        if name not in CLOCK_COLUMNS and name != "traceback"
    }


def as_table(rows: Sequence[Record], first: Mapping[str, Kind]) -> pa.Table:
    """Rows as a table: the columns of `first`, then the others in the order of their first row."""
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kind = _TYPES[first[name]] if name in first else _kind(values)
        cells: list[Any] = values
        if kind == _TEXT:
            cells = [_words(value) for value in values]
        elif kind == _REAL:
            # not with Arrow: it refuses whole numbers that float64 would round
            cells = [None if value is None else float(value) for value in values]
        columns[name] = _without_nan(pa.array(cells, kind))
    return pa.table(columns)


def _kind(values: Sequence[Any]) -> pa.DataType:
    """The type of a column: float if no value is known, text if it contains numbers and text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return _WHOLE
    return _REAL if kinds <= {int, float} else _TEXT


def _words(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _without_nan(column: Any) -> Any:
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
