"""The time that the answer may take, and how it is divided."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from lossgauge.study.progress import Progress
from lossgauge.study.schedule.runs import Run
from lossgauge.types import Record

END_SECONDS, END_SHARE = 8.0, 0.02
"""What is kept for the page and the answer: seconds, and a share of the whole. Measured on 2 cores: 4 to 7 seconds."""

PLANNED, SEARCH, CURVE = 0.8, 0.65, 0.8
"""Shares of the time that is left: what the search and the seeds of the finalists are planned to take after the features, when a
search that takes longer is stopped, and when the learning curve is. What is left over goes to more seeds. Our choice."""


class OutOfTime(BaseException):
    """Ends a study in which a run is in progress: not an Exception, which would count as a failure of the run."""


class Clock(NamedTuple):
    """Deadlines, as values of `now`."""

    began: float
    minutes: float
    now: Callable[[], float] = time.monotonic

    @property
    def end(self) -> float:
        """When the last run must have ended."""
        seconds = 60 * self.minutes
        return self.began + seconds - min(seconds / 4, END_SECONDS + END_SHARE * seconds)

    @property
    def elapsed(self) -> float:
        return self.now() - self.began

    @property
    def left(self) -> float:
        """Seconds until `end`; 0 after it."""
        return max(0.0, self.end - self.now())

    def after(self, share: float) -> float:
        """The time when this share of what is left now has passed."""
        return self.now() + share * self.left


class Deadline(Progress):
    """Raises OutOfTime at the first event of a run after the deadline."""

    def __init__(self, deadline: float, now: Callable[[], float] = time.monotonic) -> None:
        self._deadline, self._now = deadline, now

    def start(self, run: Run) -> None:
        self._check()

    def epoch(self, run: Run, epoch: int) -> None:
        self._check()

    def end(self, run: Run, summary: Record) -> None:
        self._check()

    def _check(self) -> None:
        if self._now() > self._deadline:
            raise OutOfTime
