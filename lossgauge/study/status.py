"""The status of a study: the study writes it while it runs, and any process may read it at any time."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import read_json, write_json
from lossgauge.results.reader import expected_runs
from lossgauge.results.records import Count
from lossgauge.results.writer import Store
from lossgauge.study.progress import Progress
from lossgauge.study.schedule.run_queue import Ledger, passes
from lossgauge.study.schedule.runs import Run
from lossgauge.types import Record

FILE = "running.json"
SECONDS = 1.0
"""The least time between two writes of the file while a run is under way."""


class Status(NamedTuple):
    """Runs of the study by state."""

    done: list[str]
    running: dict[str, tuple[int, int]]
    """Epochs done, and to do in all."""
    failed: dict[str, str]
    """With the error; tried again by the same command."""
    waiting: list[str]
    """Not started, or started and stopped."""
    expected: int
    """Runs in all; those that a search has not scheduled yet are in none of the above."""
    at_work: bool
    """Whether a study is running in the folder now."""
    seconds_left: float | None
    """Estimated from the speed since the last start of the study; None if it is not running, or has just started."""


def read_status(folder: Path) -> Status:
    """The status of the study in a folder. Nothing is written. Finished runs are verified: 100 MB take a tenth of a second.

    Raises StudyError where the folder holds no study, CacheError where study.json is damaged.
    """
    store = Store(folder)
    study = store.read_study()
    at_work = store.is_locked()
    report = _read(store.work / FILE) if at_work else _Report()
    done, failed, waiting = [], {}, []
    running: dict[str, tuple[int, int]] = {}
    planned = {row["run"]: row["epochs_planned"] for row in study["runs"]}
    for name, epochs in planned.items():
        if (folder / "runs" / name).is_dir():
            if (damage := store.damage(name)) is None:
                done.append(name)
            else:
                failed[name] = damage
        elif name in report.running:
            # the epoch of a run on another machine is not in the report, but its checkpoint says it
            saved = store.checkpoint(name)
            running[name] = (max(report.running[name], int(saved.name) if saved else 0), epochs)
        elif (not at_work or name in report.failed) and (why := store.failure(name)) is not None:
            failed[name] = why["error"]
        else:
            waiting.append(name)
    expected = expected_runs(study)
    return Status(done, running, failed, waiting, expected, at_work, _seconds_left(report))


def _seconds_left(report: _Report) -> float | None:
    if not report.work_done:
        return None
    return (time.time() - report.began) * report.work_left / report.work_done


class _Report(BaseModel):
    """What a running study writes."""

    running: dict[str, Count] = {}
    """Epochs done, by run."""
    failed: list[str] = []
    """Since the study was started: what failed before is tried again."""
    began: Annotated[float, Field(ge=0, lt=2**53)] = 0.0
    work_done: Count = 0
    """Passes over a training row, since the study was started."""
    work_left: Count = 0


def _read(path: Path) -> _Report:
    try:
        return _Report.model_validate(read_json(path), strict=True)
    except (CacheError, ValidationError):
        return _Report()  # best effort: the study writes it again within a second


class StatusFile(Progress):
    """Watches a study and writes what `read_status` reads. Work is counted in passes over a training row."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._path, self._ledger = store.work / FILE, ledger
        self._began, self._written = time.time(), 0.0
        self._running: dict[str, int] = {}
        self._failed: list[str] = []
        self._counted: dict[str, int] = {}
        """Of the work that is done, by run that is under way."""
        self._reused = self._done = 0
        """Passes over a training row."""

    def study(self, runs: int) -> None:
        self._write()

    def reused(self, run: Run) -> None:
        self._reused += passes(run)

    def start(self, run: Run) -> None:
        self._running[run.name] = 0
        self._write()

    def epoch(self, run: Run, epoch: int) -> None:
        # a run that continues from a checkpoint starts in its middle: earlier work is not counted
        self._done += run.config.train_samples
        self._counted[run.name] = self._counted.get(run.name, 0) + run.config.train_samples
        self._running[run.name] = epoch
        if time.time() - self._written > SECONDS:
            self._write()

    def end(self, run: Run, summary: Record) -> None:
        # the whole run, with what an earlier start did, what was not reported, and what it leaves out
        self._running.pop(run.name, None)
        self._done += passes(run) - self._counted.pop(run.name, 0)
        self._write()

    def failed(self, run: Run, error: str) -> None:
        self._failed.append(run.name)
        self.end(run, {})

    def _write(self) -> None:
        self._written = time.time()
        left = max(0, self._ledger.work - self._reused - self._done)
        report = _Report(
            running=self._running,
            failed=self._failed,
            began=self._began,
            work_done=self._done,
            work_left=left,
        )
        # best effort: a full disk must not stop the study
        with suppress(StudyError, OSError):
            self._path.parent.mkdir(exist_ok=True)
            write_json(self._path, report.model_dump())
