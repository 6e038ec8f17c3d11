"""The tables of a study as data frames: pandas or polars, whichever is installed."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from lossgauge.errors import InputError, MissingExtra, nearest
from lossgauge.results.columns import TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.view import StudyView
from lossgauge.types import Record

LIBRARIES = ("pandas", "polars")


def frame_library(name: str | None = None) -> ModuleType:
    """`pandas` or `polars`, or without a name the first of them that is installed.

    Raises InputError for another name, and MissingExtra where it is not installed.
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
    """A table of `StudyTables` as a data frame. Whole numbers stay whole where some are missing."""
    if library.__name__ == "polars":
        return library.from_arrow(table)
    frame = table.to_pandas(use_threads=False)
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_integer(field.type) and column.null_count:
            # pandas' plain integers have no missing value, and would become floats
            frame[field.name] = column.to_pandas(types_mapper=lambda _: library.Int64Dtype())
    return frame


def load_study(path: str | Path, *, frames: str | None = None) -> StudyFrames:
    """The study in a folder, as data frames of `frames`: `pandas`, `polars`, or the first of them that is installed.

    Every file of every finished run is verified; a damaged run is among the `failures`. Raises StudyError where the
    folder holds no study, and MissingExtra where the library is not installed.
    """
    library = frame_library(frames)
    return StudyFrames(read_study(Path(path)), library)


class StudyFrames:
    """Data frames of a study, each made when it is first asked for, and kept.

    What is not known is missing (NaN, null), never 0. Columns of `steps` and `epochs` are in docs/diagnostics.md.
    """

    def __init__(self, view: StudyView, library: ModuleType) -> None:
        self._tables = StudyTables(view)
        self._library = library

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
        """One row for each finished run of the variants `default`, `tuned` and `sensitivity`: settings and results."""
        return self._frame("runs")

    @cached_property
    def timing(self) -> Any:
        """What the clock wrote of each of `runs`: seconds, milliseconds of a step, the probe's share."""
        return self._frame("timing")

    @cached_property
    def epochs(self) -> Any:
        """One row for each run and epoch; epoch 0 is before training."""
        return self._frame("epochs")

    @cached_property
    def steps(self) -> Any:
        """One row for each run and optimisation step: large, and read from the folder only when asked for."""
        return self._frame("steps")

    @cached_property
    def classes(self) -> Any:
        """One row for each run, side of the split and class: geometry of the selected epoch."""
        return self._frame("classes")

    @cached_property
    def trials(self) -> Any:
        """One row for each trial of a search that ended, measured on the validation slice."""
        return self._frame("trials")

    @cached_property
    def tuned(self) -> Any:
        """One row for each dataset and loss: what its search chose."""
        return self._frame("tuned")

    @cached_property
    def references(self) -> Any:
        """One row for each dataset and reference space: frozen features, random unit vectors, full collapse."""
        return self._frame("references")

    @cached_property
    def failures(self) -> Any:
        """One row for each run that failed or is damaged, with its `error`; failed trials are in `trials`."""
        return self._frame("failures")

    @cached_property
    def left_out(self) -> Any:
        """One row for each dataset that is left out, with the `reason`."""
        return self._frame("left_out")

    def __repr__(self) -> str:
        return (
            f"<study {self._tables.folder} in {self._library.__name__}, {len(self._tables.runs)} runs: "
            f"{', '.join(TABLES)}, plan, environment>"
        )

    def _frame(self, name: str) -> Any:
        return as_frame(self._tables.table(name), self._library)
