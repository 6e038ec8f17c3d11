"""How far a study is: set down while it is at work, and read by whoever asks, at any time."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import read_json, write_json
from lossgauge.results.records import Count
from lossgauge.results.store import Store, expected_runs
from lossgauge.study.schedule.run_queue import Ledger, passes
from lossgauge.study.schedule.runs import Run
from lossgauge.types import Record

FILE = "running.json"
SECONDS = 1.0
"""The file is written at most so often between the begin and the end of a run."""


class Status(NamedTuple):
    """Runs of the present study by state."""

    done: list[str]
    running: dict[str, tuple[int, int]]
    """Epochs done, and to do in all."""
    failed: dict[str, str]
    """With the error; tried again by the same command."""
    waiting: list[str]
    """Not begun, or begun and stopped."""
    expected: int
    """Runs in all; those that a search has still to name are in none of the above."""
    at_work: bool
    """Whether a study is at work in the folder now."""
    seconds_left: float | None
    """From the pace since the study was last started; None where it stands or has no pace yet."""


def read_status(folder: Path) -> Status:
    """How far the study in a folder is. It disturbs nothing. Finished runs are verified: 100 MB take a tenth of a second.

    Raises StudyError where the folder holds no study, CacheError where study.json is damaged.
    """
    store = Store(folder)
    study = store.read_study()
    at_work = store.is_locked()
    told = _told(store.work / FILE) if at_work else _NOTHING
    done, failed, waiting = [], {}, []
    running: dict[str, tuple[int, int]] = {}
    planned = {row["run"]: row["epochs_planned"] for row in study["runs"]}
    for name, epochs in planned.items():
        if (folder / "runs" / name).is_dir():
            if (damage := store.damage(name)) is None:
                done.append(name)
            else:
                failed[name] = damage
        elif name in told.running:
            # of a run on another machine nobody tells the epoch, but its checkpoint does
            saved = store.checkpoint(name)
            running[name] = (max(told.running[name], int(saved.name) if saved else 0), epochs)
        elif (not at_work or name in told.failed) and (why := store.failure(name)) is not None:
            failed[name] = why["error"]
        else:
            waiting.append(name)
    expected = expected_runs(study)
    return Status(done, running, failed, waiting, expected, at_work, _seconds_left(told))


def _seconds_left(told: _Told) -> float | None:
    if not told.work_now:
        return None
    return (time.time() - told.began) * told.work_left / told.work_now


class _Told(BaseModel):
    """What a study at work says of itself."""

    running: dict[str, Count] = {}
    """Epochs done, by run."""
    failed: list[str] = []
    """Since it was started: what failed before is tried again."""
    began: Annotated[float, Field(ge=0, lt=2**53)] = 0.0
    work_now: Count = 0
    work_left: Count = 0


_NOTHING = _Told()


def _told(path: Path) -> _Told:
    try:
        return _Told.model_validate(read_json(path), strict=True)
    except (CacheError, ValidationError):
        return _NOTHING  # best effort: the study writes it again within a second


class StatusFile:
    """Watches a study and writes what `read_status` reads. Work is counted in passes over a training row."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._path, self._ledger = store.work / FILE, ledger
        self._began, self._written = time.time(), 0.0
        self._running: dict[str, int] = {}
        self._failed: list[str] = []
        self._counted: dict[str, int] = {}
        self._there = self._now = 0

    def features(self, dataset: str, done: int, total: int) -> None:
        return None

    def left_out(self, dataset: str, reason: str) -> None:
        return None

    def warning(self, subject: str, words: str) -> None:
        return None

    def study(self, runs: int) -> None:
        self._write()

    def reused(self, run: Run) -> None:
        self._there += passes(run)

    def start(self, run: Run) -> None:
        self._running[run.name] = 0
        self._write()

    def epoch(self, run: Run, epoch: int) -> None:
        # a run that goes on from a checkpoint begins in its middle, which was not done now
        self._now += run.config.train_samples
        self._counted[run.name] = self._counted.get(run.name, 0) + run.config.train_samples
        self._running[run.name] = epoch
        if time.time() - self._written > SECONDS:
            self._write()

    def end(self, run: Run, summary: Record) -> None:
        # with what it did before this study began, or told nobody of, or will not do
        self._running.pop(run.name, None)
        self._now += passes(run) - self._counted.pop(run.name, 0)
        self._write()

    def failed(self, run: Run, error: str) -> None:
        self._failed.append(run.name)
        self.end(run, {})

    def _write(self) -> None:
        self._written = time.time()
        left = max(0, self._ledger.work - self._there - self._now)
        told = _Told(
            running=self._running,
            failed=self._failed,
            began=self._began,
            work_now=self._now,
            work_left=left,
        )
        # a full disk must stop no study for the sake of its status
        with suppress(StudyError, OSError):
            self._path.parent.mkdir(exist_ok=True)
            write_json(self._path, told.model_dump())
