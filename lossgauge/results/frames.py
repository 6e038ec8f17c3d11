"""The tables of a study as data frames: pandas or polars, whichever is installed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import pyarrow as pa

from lossgauge.errors import InputError, MissingExtra, nearest

LIBRARIES = ("pandas", "polars")


def frame_library(name: str | None = None) -> ModuleType:
    """`pandas` or `polars`; without a name, the first of them that is installed.

    Raises InputError for another name, and MissingExtra if the library is not installed.
    """
    if name is not None and name not in LIBRARIES:
        raise InputError(f"frames must be pandas or polars, got {name!r}{nearest(name, LIBRARIES)}")
    names = LIBRARIES if name is None else (name,)
    for candidate in names:
        try:
            return import_module(candidate)
        except ImportError:
            continue
    raise MissingExtra(
        f"data frames need {' or '.join(names)}: pip install 'lossgauge[{names[0]}]'"
    )


def as_frame(table: pa.Table, library: ModuleType) -> Any:
    """A table of `StudyTables` as a data frame. Whole numbers stay integers even if some are missing."""
    if library.__name__ == "polars":
        return library.from_arrow(table)
    frame = table.to_pandas(use_threads=False)
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_integer(field.type) and column.null_count:
            # pandas' plain integers have no missing value, and would become floats
            frame[field.name] = column.to_pandas(types_mapper=lambda _: library.Int64Dtype())
    return frame
