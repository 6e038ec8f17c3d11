"""What a study tells while it is at work, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lossgauge.study.schedule.runs import Run
from lossgauge.types import Record


@runtime_checkable
class Progress(Protocol):
    """Somebody who watches a study: a terminal's bars, or lines in a log."""

    def features(self, dataset: str, done: int, total: int) -> None:
        """So many images of `total` have features."""

    def left_out(self, dataset: str, reason: str) -> None: ...

    def warning(self, subject: str, words: str) -> None:
        """Something to know of a dataset, a run or the study's folder."""

    def study(self, runs: int) -> None:
        """So many runs are asked for in all; told anew where a search has changed the number."""

    def reused(self, run: Run) -> None:
        """The run is there already."""

    def start(self, run: Run) -> None: ...

    def epoch(self, run: Run, epoch: int) -> None: ...

    def end(self, run: Run, summary: Record) -> None: ...

    def failed(self, run: Run, error: str) -> None: ...


class ProgressGroup:
    """Several who watch the same study."""

    def __init__(self, watchers: Sequence[Progress]) -> None:
        self._watchers = watchers

    def features(self, dataset: str, done: int, total: int) -> None:
        for watcher in self._watchers:
            watcher.features(dataset, done, total)

    def left_out(self, dataset: str, reason: str) -> None:
        for watcher in self._watchers:
            watcher.left_out(dataset, reason)

    def warning(self, subject: str, words: str) -> None:
        for watcher in self._watchers:
            watcher.warning(subject, words)

    def study(self, runs: int) -> None:
        for watcher in self._watchers:
            watcher.study(runs)

    def reused(self, run: Run) -> None:
        for watcher in self._watchers:
            watcher.reused(run)

    def start(self, run: Run) -> None:
        for watcher in self._watchers:
            watcher.start(run)

    def epoch(self, run: Run, epoch: int) -> None:
        for watcher in self._watchers:
            watcher.epoch(run, epoch)

    def end(self, run: Run, summary: Record) -> None:
        for watcher in self._watchers:
            watcher.end(run, summary)

    def failed(self, run: Run, error: str) -> None:
        for watcher in self._watchers:
            watcher.failed(run, error)
