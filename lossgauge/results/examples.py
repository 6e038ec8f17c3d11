"""What a page shows of a dataset's test rows: queries with their nearest rows, a map, class means, small pictures.

A study writes it once its runs have ended. It is read when a page is made, and verified like all other files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lossgauge.files import check_folder, damaged, load_json, load_table
from lossgauge.results.layout import EXAMPLE_FILES, EXAMPLE_TABLES, Layout
from lossgauge.results.records import ExamplesRecord, Thumbnail, Thumbnails, checked
from lossgauge.types import Record

NEIGHBORS = 5
"""Nearest rows of a query that are kept."""

HARDEST, DISAGREEMENT, ORDINARY = "hardest", "disagreement", "ordinary"
"""Why a query is shown."""

POSITION_UNIT = 16_000
"""Positions of the map are whole numbers of 16 bits, this many to 1: differences of unit vectors lie in [−2, 2]."""

_COLUMNS = {
    "rows": {"row": pa.int32(), "label": pa.int64(), "id": pa.string()},
    "queries": {"kind": pa.string(), "query": pa.int32(), "right": pa.int32(), "wrong": pa.int32()},
    "neighbors": {
        **{name: pa.int32() for name in ("space", "query", "rank", "row")},
        "is_right": pa.bool_(),
        "similarity": pa.float32(),
    },
    "positions": {name: pa.int32() for name in ("space", "epoch", "row", "x", "y")},
    "cosines": {
        "space": pa.int32(),
        "label": pa.int64(),
        "other": pa.int64(),
        "cosine": pa.float32(),
    },
}
SCHEMAS = {name: pa.schema(columns) for name, columns in _COLUMNS.items()}
"""Columns of each table. `space`, `right` and `wrong` are places in `spaces`; `row` and `query` are rows of the dataset.

`rows` has every row of the test side, and the id of those that are shown. `right` and `wrong` are the space that is right
at rank 1 and the one that is wrong, in a disagreement. `cosines` are those of class means, each pair once.
"""


class Examples(NamedTuple):
    """The examples of one dataset."""

    about: ExamplesRecord
    rows: pa.Table
    queries: pa.Table
    neighbors: pa.Table
    positions: pa.Table
    cosines: pa.Table
    thumbnails: Mapping[str, Thumbnail]
    """Row, as text → its picture."""


def read_examples(layout: Layout, dataset: str) -> Examples | None:
    """The examples of a dataset; None if the study wrote none. Raises CacheError if a file is damaged."""
    folder = layout.examples(dataset)
    if not os.path.lexists(folder):
        return None
    load = {
        name: load_json if name.endswith(".json") else load_table for name in sorted(EXAMPLE_FILES)
    }
    content = check_folder(folder, of=dataset, needed=EXAMPLE_FILES, load=load)
    about = checked(folder / "record.json", ExamplesRecord, content["record.json"])
    images = checked(folder / "thumbnails.json", Thumbnails, content["thumbnails.json"])
    tables = {name: content[f"{name}.parquet"] for name in EXAMPLE_TABLES}
    for name, table in tables.items():
        _check_table(folder / f"{name}.parquet", name, table, len(about["spaces"]))
    examples = Examples(
        ExamplesRecord.model_validate(about),
        **tables,
        thumbnails=Thumbnails.model_validate(images).images,
    )
    if (why := _contradiction(examples)) is not None:
        raise damaged(folder, why)
    return examples


def _check_table(path: Path, name: str, table: pa.Table, space_count: int) -> None:
    """CacheError unless a table has its columns, and names only spaces that there are."""
    if table.schema != SCHEMAS[name]:
        raise damaged(path, f"its columns are {', '.join(table.schema.names)}")
    for column in ("space", "right", "wrong"):
        if column in table.schema.names and not _within(table[column], 0, space_count - 1):
            raise damaged(path, f"its column {column!r} names a space that does not exist")
    for column in ("x", "y"):
        if column in table.schema.names and not _within(table[column], -(2**15), 2**15 - 1):
            raise damaged(path, f"its column {column!r} has numbers of more than 16 bits")


def _contradiction(of: Examples) -> str | None:
    """Why the parts do not belong together; None if they do."""
    known = set(of.rows.filter(pc.is_valid(of.rows["id"]))["row"].to_pylist())
    named = (
        of.queries["query"],
        of.neighbors["query"],
        of.neighbors["row"],
        of.positions["row"],
    )
    if any(not set(column.unique().to_pylist()) <= known for column in named):
        return "it names a row without an id"
    if not of.thumbnails.keys() <= {str(row) for row in known}:
        return "it has a picture of a row that is not shown"
    rows = len(of.positions["row"].unique())
    counts = dict.fromkeys(range(len(of.about.spaces)), 0)
    counts |= {
        one["values"]: one["counts"] for one in of.positions["space"].value_counts().to_pylist()
    }
    if any(counts[at] != rows * len(space.epochs) for at, space in enumerate(of.about.spaces)):
        return "its map does not have each row at each epoch"
    return None


def _within(column: pa.ChunkedArray, low: int, high: int) -> bool:
    """Whether all known numbers of a column are within these limits."""
    ends = pc.min_max(column).as_py()
    return ends["min"] is None or (low <= ends["min"] and ends["max"] <= high)


def table_of(name: str, rows: Sequence[Record]) -> pa.Table:
    """A table of the examples."""
    return pa.Table.from_pylist(rows, schema=SCHEMAS[name])
