"""What a study reports while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

from lossgauge.study.schedule.runs import Run
from lossgauge.types import Record


class Progress:
    """Ignores every event: the base of all that watch a study. A subclass overrides what it wants to know.

    It is used as a context, so that what it draws ends with the study.
    """

    def features(self, dataset: str, done: int, total: int) -> None:
        """`done` of `total` images have features."""

    def left_out(self, dataset: str, reason: str) -> None:
        """The study continues without a dataset."""

    def warning(self, subject: str, words: str) -> None:
        """Something to know about a dataset, a run or the study's folder."""

    def study(self, runs: int) -> None:
        """The study has `runs` runs in all. Called again where a search has changed the number."""

    def best(self, words: str) -> None:
        """What the best result is so far, where the runs are a search for it."""

    def reused(self, run: Run) -> None:
        """A run was finished before."""

    def start(self, run: Run) -> None:
        """A run starts, or continues from its checkpoint."""

    def epoch(self, run: Run, epoch: int) -> None:
        """A run has finished an epoch, counted from 1."""

    def end(self, run: Run, summary: Record) -> None:
        """A run is finished."""

    def failed(self, run: Run, error: str) -> None:
        """A run has failed."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


EVENTS = tuple(name for name in vars(Progress) if not name.startswith("_"))


class ProgressGroup(Progress):
    """Passes every event on to each of several, in their order."""

    def __init__(self, members: Sequence[Progress]) -> None:
        for event in EVENTS:
            setattr(self, event, partial(_call_all, [getattr(m, event) for m in members]))


def _call_all(methods: Sequence[Any], *values: Any) -> None:
    for method in methods:
        method(*values)
