"""A study's folder as data frames: pandas or polars, whichever is there."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from lossgauge.errors import InputError, MissingExtra, nearest
from lossgauge.results.columns import TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.types import Record

LIBRARIES = ("pandas", "polars")


def load_study(path: str | Path, *, frames: str | None = None) -> StudyFrames:
    """The study in a folder, as data frames of `frames`: `pandas`, `polars`, or the first of them that is installed.

    Every file of every finished run is verified; a damaged run is among the `failures`. Raises StudyError where the
    folder holds no study, and MissingExtra where the library is not installed.
    """
    library = frame_library(frames)
    return StudyFrames(StudyTables(read_study(Path(path))), library, Path(path))


def frame_library(name: str | None = None) -> Any:
    """The library of that name, else the first of LIBRARIES that is installed.

    Raises InputError for a name that is not in LIBRARIES, MissingExtra where none is installed.
    """
    if name is not None and name not in LIBRARIES:
        raise InputError(f"frames must be pandas or polars, got {name!r}{nearest(name, LIBRARIES)}")
    return _library(LIBRARIES if name is None else (name,))


def as_frame(table: pa.Table, library: Any) -> Any:
    """An Arrow table as a data frame of a library that `frame_library` gave."""
    return library.from_arrow(table) if library.__name__ == "polars" else _pandas(table, library)


class StudyFrames:
    """Data frames of a study, each read when it is first asked for, and kept.

    What is not known is missing (NaN, null), never 0. Columns of `steps` and `epochs` are in docs/diagnostics.md.
    """

    def __init__(self, tables: StudyTables, library: Any, path: Path) -> None:
        self._tables = tables
        self._library = library
        self._path = path

    @property
    def plan(self) -> Record:
        """Every setting of the study, as in its file."""
        return self._tables.view.plan

    @property
    def environment(self) -> Record:
        """Versions and machine that it was run with."""
        return self._tables.view.environment

    @cached_property
    def runs(self) -> Any:
        """One row a finished run of the variants `default`, `tuned` and `sensitivity`: settings and results."""
        return self._frame("runs")

    @cached_property
    def timing(self) -> Any:
        """What the clock said of each of `runs`: seconds, milliseconds a step, the probe's share."""
        return self._frame("timing")

    @cached_property
    def epochs(self) -> Any:
        """One row a run and epoch; epoch 0 is before training."""
        return self._frame("epochs")

    @cached_property
    def steps(self) -> Any:
        """One row a run and optimisation step: large."""
        return self._frame("steps")

    @cached_property
    def classes(self) -> Any:
        """One row a run, side of the split and class: geometry of the selected epoch."""
        return self._frame("classes")

    @cached_property
    def trials(self) -> Any:
        """One row a trial of a search that ended, measured on the validation slice."""
        return self._frame("trials")

    @cached_property
    def tuned(self) -> Any:
        """One row a dataset and loss: what its search chose."""
        return self._frame("tuned")

    @cached_property
    def references(self) -> Any:
        """One row a dataset and reference space: frozen features, random unit vectors, full collapse."""
        return self._frame("references")

    @cached_property
    def failures(self) -> Any:
        """One row a run that failed or is damaged, with its `error`; failed trials are in `trials`."""
        return self._frame("failures")

    @cached_property
    def left_out(self) -> Any:
        """One row a dataset that was not there, with the `reason`."""
        return self._frame("left_out")

    def __repr__(self) -> str:
        return (
            f"<study {self._path} in {self._library.__name__}, {len(self._tables.runs)} runs: "
            f"{', '.join(TABLES)}, plan, environment>"
        )

    def _frame(self, name: str) -> Any:
        return as_frame(self._tables.table(name), self._library)


def _library(names: tuple[str, ...]) -> Any:
    """The first of these that is installed."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingExtra(
        f"data frames need {' or '.join(names)}: pip install 'lossgauge[{names[0]}]'"
    )


def _pandas(table: pa.Table, pandas: Any) -> Any:
    frame = table.to_pandas(use_threads=False)
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_integer(field.type) and column.null_count:
            # pandas' plain integers know no missing value and would come as floats
            frame[field.name] = column.to_pandas(types_mapper=lambda _: pandas.Int64Dtype())
    return frame
