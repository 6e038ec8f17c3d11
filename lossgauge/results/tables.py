"""A study's folder as flat Arrow tables: what data frames and exports are made of.

The order of rows is that of study.json, and what the clock wrote stands in `timing` alone, so that the same study
gives the same tables, whatever order its runs ended in. What is not known is null, a NaN too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossgauge.files import damaged, read_json, read_schema, read_table
from lossgauge.portable import portable_results, portable_value
from lossgauge.results.store import TIMING, Store
from lossgauge.types import Record, Results

Columns = dict[str, Any]
"""Names to Arrow types."""

CHUNK_ROWS = 100_000
"""Rows that are held at a time where a table is read run by run, give or take a run."""

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
RUN: Columns = {
    **dict.fromkeys(("run", "dataset", "loss", "base", "variant"), _TEXT),
    "seed": _WHOLE,
}
"""The columns that tell a run's rows from another's. A run may be there twice, as two variants."""

LEADING: dict[str, Columns] = {
    "runs": RUN,
    "timing": {**RUN, **dict.fromkeys(("step_milliseconds", "probe_share", "seconds"), _REAL)},
    "epochs": {**RUN, "epoch": _WHOLE},
    "trials": {**RUN, "trial": _WHOLE, "objective": _REAL, "error": _TEXT},
    "tuned": {
        **dict.fromkeys(("dataset", "base", "loss"), _TEXT),
        "trial": _WHOLE,
        "settings": _TEXT,
        **dict.fromkeys(("objective", "default_objective"), _REAL),
        **dict.fromkeys(("trials", "failed"), _WHOLE),
        "error": _TEXT,
    },
    "classes": {**RUN, "side": _TEXT, "label": _WHOLE},
    "steps": {**RUN, "step": _WHOLE, "epoch": _WHOLE},
    "references": {"dataset": _TEXT, "reference": _TEXT},
    "failures": {**RUN, "error": _TEXT},
    "left_out": {"dataset": _TEXT, "reason": _TEXT, "extent": _TEXT},
}
"""The tables, and the columns that each begins with and always has."""

PER_RUN = ("epochs", "steps", "classes")
"""Tables with rows of their own in each run's folder."""


class StudyTables:
    """The tables of one study, as its folder was when this was made: runs that end later are not in them."""

    results: Results
    """The same, as the report reads it, without the folders of one machine."""

    def __init__(self, folder: Path) -> None:
        """Verify and read what is done. Raises StudyError where the folder holds no study."""
        self._store = Store(folder)
        study = self._store.read_study()
        self.results = portable_results(self._store.load())
        place = {_asked(portable_value(row)): number for number, row in enumerate(study["runs"])}
        self._runs = sorted(
            (*self.results.summaries, *self.results.sensitivity),
            key=lambda row: place.get(_asked(portable_value(row)), len(place)),
        )

    @property
    def runs(self) -> list[Record]:
        """A row a finished run of variant `default`, `tuned` or `sensitivity`, without what the clock wrote."""
        return [_timeless(row) for row in self._runs]

    @cached_property
    def timing(self) -> list[Record]:
        """What the clock wrote of each of `runs`."""
        return [
            {**_named(row), **read_json(self._folder(row) / "timing.json")} for row in self._runs
        ]

    def config(self, row: Record) -> Record:
        """All that a run of `runs` depends on. Raises CacheError where it is damaged."""
        found: Record = portable_value(read_json(self._folder(row) / "config.json"))
        return found

    def table(self, name: str) -> pa.Table:
        """The whole table of a name in LEADING. Raises CacheError where a run was damaged since this was made."""
        return pa.concat_tables([self.schema(name).empty_table(), *self.chunks(name)])

    def schema(self, name: str) -> pa.Schema:
        """Columns of a table: those of LEADING first, the others as they first come."""
        if name not in PER_RUN:
            return as_table(self._rows(name), LEADING[name]).schema
        found = [read_schema(self._path(row, name)) for row in self._runs]
        fields = pa.unify_schemas([pa.schema([]), *found], promote_options="permissive")
        leading = LEADING[name]
        others = [
            field.with_type(_REAL) if pa.types.is_null(field.type) else field
            for field in fields.remove_metadata()
            if field.name not in leading and field.name not in TIMING
        ]
        return pa.schema([*map(pa.field, leading, leading.values()), *others])

    def chunks(self, name: str) -> Iterator[pa.Table]:
        """A table in parts of one schema: `steps` of a large study need never be in memory as a whole."""
        if name not in PER_RUN:
            yield as_table(self._rows(name), LEADING[name])
            return
        schema = self.schema(name)
        waiting: list[pa.Table] = []
        for row in self._runs:
            waiting.append(self.part(row, name, schema))
            if sum(part.num_rows for part in waiting) >= CHUNK_ROWS:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting).combine_chunks()

    def _rows(self, name: str) -> Sequence[Record]:
        if name == "timing":
            return self.timing
        return self.runs if name == "runs" else [*map(_timeless, getattr(self.results, name))]

    def part(self, row: Record, name: str, schema: pa.Schema) -> pa.Table:
        """What one of `runs` adds to a table of PER_RUN, in the columns of all."""
        path = self._path(row, name)
        found = read_table(path)
        columns = []
        for field in schema:
            if field.name in RUN:
                columns.append(pa.repeat(pa.scalar(row[field.name], field.type), found.num_rows))
            elif field.name in found.column_names:
                columns.append(_without_nan(_cast(path, found.column(field.name), field.type)))
            else:
                columns.append(pa.nulls(found.num_rows, field.type))
        return pa.table(columns, schema=schema)

    def _folder(self, row: Record) -> Path:
        return self._store.folder / "runs" / str(row["run"])

    def _path(self, row: Record, name: str) -> Path:
        return self._folder(row) / f"{name}.parquet"


def _cast(path: Path, column: Any, kind: pa.DataType) -> Any:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise damaged(path, str(error)) from None


def _asked(row: Record) -> tuple[Any, ...]:
    """What makes a run and why it is run: unique in a study."""
    return tuple(row.get(name) for name in (*RUN, "setting", "factor", "trial"))


def _named(row: Record) -> Record:
    return {name: row[name] for name in RUN}


def _timeless(row: Record) -> Record:
    """Without what the clock wrote; a traceback names places on one machine, and stays in the folder."""
    return {name: value for name, value in row.items() if name not in (*TIMING, "traceback")}


def as_table(rows: Sequence[Record], leading: Columns) -> pa.Table:
    """Rows as a table: the leading columns, then the others as they first come."""
    names = dict.fromkeys([*leading, *(name for row in rows for name in row)])
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kind = leading.get(name) or _kind(values)
        cells: list[Any] = values
        if kind == _TEXT:
            cells = [_words(value) for value in values]
        elif kind == _REAL:
            # not by Arrow: it takes no whole number that a float64 would round
            cells = [None if value is None else float(value) for value in values]
        columns[name] = _without_nan(pa.array(cells, kind))
    return pa.table(columns)


def _kind(values: Sequence[Any]) -> pa.DataType:
    """Type of a column: real where nothing is known, text where numbers and words meet."""
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
