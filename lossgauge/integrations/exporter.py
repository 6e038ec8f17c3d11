"""The request for an export, and the interface that each tool implements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from lossgauge.integrations.tracked import TrackedRun, track
from lossgauge.results.tables import StudyTables


class RunSource(Protocol):
    """What a tracker writes: the runs of a study, or that of a probe."""

    @property
    def study(self) -> str:
        """The name of the experiment or project."""
        ...

    @property
    def folder(self) -> Path | None:
        """The target folder; None for a server that the user's environment names."""
        ...

    def runs(self) -> Iterator[TrackedRun]:
        """The runs, in their order."""
        ...


class Export(NamedTuple):
    """One export of one study."""

    tables: StudyTables
    study: str
    """Its name: that of its folder."""
    folder: Path | None
    """The target folder; None for a server that the user's environment names."""
    quote_formulas: bool = False
    """For csv: an apostrophe before text that a spreadsheet would run."""

    def runs(self) -> Iterator[TrackedRun]:
        """The runs for a tracker, in the study's order: `default`, `tuned` and `sensitivity`, without trials."""
        schema = self.tables.schema("epochs")
        for row, timing in zip(self.tables.runs, self.tables.timing, strict=True):
            epochs = self.tables.part(row, "epochs", schema).to_pylist()
            yield track(row, timing=timing, config=self.tables.config(row), epochs=epochs)


def _nothing_to_check() -> None:
    return None


def _in_folder(export: Export) -> str:
    return str(export.folder)


class Exporter(NamedTuple):
    """How a study is written for one tool."""

    write: Callable[[Export], None]
    """Writes the export into the folder, which exists. Raises StudyError or OSError if it cannot be written."""
    check_installed: Callable[[], object] = _nothing_to_check
    """Raises MissingExtra if the tool's library is not installed."""
    adds_runs: bool = False
    """Whether an export adds missing runs to an earlier export. Otherwise it replaces the earlier one."""
    uses_server: Callable[[], bool] = bool
    """Whether the user's environment names a server, which is used where no folder is given."""
    location: Callable[[Export], str] = _in_folder
    """Where the export is, for the user."""
