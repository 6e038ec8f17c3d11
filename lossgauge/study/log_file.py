"""study.log in a study's folder: what started, ended and failed, and when; with the versions of each start.

It is for people. It is appended to when the study continues; above a million bytes the older part is in study.log.1, and
what was there before is gone. Best effort: a log that cannot be written does not stop a study.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from lossgauge.results.measures import measures_of
from lossgauge.study.progress import Progress
from lossgauge.study.schedule.runs import Run
from lossgauge.terminal import one_line
from lossgauge.types import Record

MOST_BYTES = 1_000_000
MOST_LETTERS = 2_000
"""Of one line: an error may quote a whole file."""


class LogFile(Progress):
    """Writes each event as a line: the time in UTC, then words."""

    def __init__(
        self, path: Path, environment: Record, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._environment, self._clock = path, environment, clock
        self._reused = 0
        self._runs: int | None = None
        self._started: dict[str, float] = {}
        self.summary = ""
        """How the study ended, where it does not end by an exception."""

    def __enter__(self) -> LogFile:
        self._say(f"study started: {', '.join(f'{k} {v}' for k, v in self._environment.items())}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._say(f"study ended: {self.summary}")
        else:
            self._say(f"study stopped: {kind.__name__} {error or ''}")

    def left_out(self, dataset: str, reason: str) -> None:
        self._say(f"{dataset} is left out: {reason}")

    def warning(self, subject: str, words: str) -> None:
        self._say(f"{subject}: {words}")

    def study(self, runs: int) -> None:
        if runs != self._runs:
            self._say(f"{runs} runs, {self._reused} of them done before")
        self._runs = runs

    def reused(self, run: Run) -> None:
        self._reused += 1

    def start(self, run: Run) -> None:
        self._started[run.name] = self._clock()
        self._say(f"started {run.name}")

    def end(self, run: Run, summary: Record) -> None:
        column = measures_of(summary).headline[0]
        value = summary.get(column.name)
        self._say(
            f"ended {run.name}{self._after(run)}"
            + ("" if value is None else f", {column.title} {value:.1%}")
        )

    def failed(self, run: Run, error: str) -> None:
        self._say(f"failed {run.name}{self._after(run)}: {error}")

    def _after(self, run: Run) -> str:
        began = self._started.pop(run.name, None)
        return "" if began is None else f" after {self._clock() - began:.1f} s"

    def _say(self, words: str) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self._clock()))
        with suppress(OSError):
            append(self._path, f"{when}  {one_line(words)[:MOST_LETTERS]}\n")


def append(path: Path, line: str) -> None:
    """Add a line to a regular file; OSError for a link, a pipe or a folder. A file that gets too long becomes PATH.1."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags, 0o666)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a regular file")
        data = line.encode()
        os.write(handle, data)
    finally:
        os.close(handle)
    if found.st_size + len(data) > MOST_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
