"""The time of a study: no run is started that would probably end after it. Runs that are going on are finished."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lossgauge.errors import InputError
from lossgauge.study.schedule.run_queue import passes
from lossgauge.study.schedule.runs import Run

MOST_MINUTES = 1e6
"""Two years: larger values are treated as typos."""


class TimeLimit:
    """Some minutes from `began` on, by default from now; None for no limit.

    How long a run takes is known from the runs that have ended since then: of the same loss on the same dataset, else the
    slowest on that dataset, else the slowest of all; in seconds for each pass over a training row. A run that nothing is known
    about is started, so each call does some work; it may end late.
    """

    def __init__(
        self,
        minutes: float | None = None,
        *,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if minutes is not None and not 0 < minutes <= MOST_MINUTES:  # false for NaN
            raise InputError(
                f"minutes must be above 0 and at most {MOST_MINUTES:,.0f}, got {minutes:g}"
            )
        self.minutes = minutes
        self._clock = clock
        start = clock() if began is None else began
        self._end = math.inf if minutes is None else start + 60 * minutes
        self._started: dict[str, float] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        """Of the last run of a loss on a dataset, for each pass over a row; of one without training, in all."""

    def allows(self, run: Run) -> bool:
        """Whether to start a run now."""
        now = self._clock()
        return now < self._end and now + (self._expected(run) or 0.0) <= self._end

    def start(self, run: Run) -> None:
        """A run is started now."""
        self._started[run.name] = self._clock()

    def end(self, run: Run) -> None:
        """A run has ended now."""
        seconds = self._clock() - self._started.pop(run.name)
        self._seconds[_kind(run)] = seconds / (passes(run) or 1)

    def _expected(self, run: Run) -> float | None:
        """Seconds; None if nothing is known."""
        if (known := self._seconds.get(_kind(run))) is not None:
            return known * (passes(run) or 1)
        trained = {kind: each for kind, each in self._seconds.items() if kind[1] != "untrained"}
        on_dataset = [each for (dataset, _), each in trained.items() if dataset == _kind(run)[0]]
        rates = on_dataset or list(trained.values())
        return max(rates) * passes(run) if rates else None


def _kind(run: Run) -> tuple[str, str]:
    return run.config.dataset, run.config.loss
