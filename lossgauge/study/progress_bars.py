"""How a study looks while it runs: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lossgauge.study.schedule.runs import Run
from lossgauge.terminal import one_line, safe
from lossgauge.types import Record

LINE_SECONDS = 10.0
"""Without a terminal, a line on features at most so often."""


class Pace:
    """Images a second since it was made, at `done` of them: an extraction may go on from the middle."""

    def __init__(self, done: int) -> None:
        self._first, self._began = done, time.monotonic()

    def rate(self, done: int) -> float:
        """0 at the very start."""
        elapsed = time.monotonic() - self._began
        return (done - self._first) / elapsed if elapsed > 0 else 0.0


class Bars:
    """A bar for all runs, one for each run at work, and one for features while they are extracted."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._features: dict[str, TaskID] = {}
        self._pace: dict[str, Pace] = {}
        self._all: TaskID | None = None
        self._runs: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def features(self, dataset: str, done: int, total: int) -> None:
        if dataset not in self._features:
            self._features[dataset] = self._progress.add_task("", total=total)
            self._pace[dataset] = Pace(done)
        self._progress.update(
            self._features[dataset],
            completed=done,
            description=safe(
                f"features of {dataset}, {self._pace[dataset].rate(done):.0f} images/s"
            ),
        )

    def left_out(self, dataset: str, reason: str) -> None:
        self._say(f"{dataset} is left out: {reason}")

    def warning(self, dataset: str, words: str) -> None:
        self._say(f"{dataset}: {words}")

    def study(self, runs: int) -> None:
        if self._all is None:
            self._all = self._progress.add_task("all runs", total=runs)
        self._progress.update(self._all, total=runs)

    def reused(self, run: Run) -> None:
        self._advance()

    def start(self, run: Run) -> None:
        total = max(run.config.epochs, 1)
        self._runs[run.name] = self._progress.add_task(safe(title(run)), total=total)

    def epoch(self, run: Run, epoch: int) -> None:
        if run.name in self._runs:
            self._progress.update(self._runs[run.name], completed=epoch)

    def end(self, run: Run, summary: Record) -> None:
        if run.name in self._runs:
            self._progress.remove_task(self._runs.pop(run.name))
        self._advance()

    def failed(self, run: Run, error: str) -> None:
        self._say(f"{title(run)} failed: {error}")
        self.end(run, {})

    def _say(self, words: str) -> None:
        self._progress.console.print(Text(one_line(words)))

    def _advance(self) -> None:
        if self._all is None:  # runs that are there are counted before all are known
            self._all = self._progress.add_task("all runs", total=None)
        self._progress.advance(self._all)


class Lines:
    """A line an event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs, self._done, self._began, self._last = 0, 0, 0.0, 0.0
        self._reused = 0
        self._pace: dict[str, Pace] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def features(self, dataset: str, done: int, total: int) -> None:
        pace = self._pace.setdefault(dataset, Pace(done))
        now = time.monotonic()
        if done == total or now - self._last > LINE_SECONDS:
            self._last = now
            rate = pace.rate(done)
            left = f", about {(total - done) / rate:.0f} s left" if rate and done < total else ""
            self._say(f"features of {dataset}: {done} of {total} images, {rate:.0f} images/s{left}")

    def left_out(self, dataset: str, reason: str) -> None:
        self._say(f"{dataset} is left out: {reason}")

    def warning(self, dataset: str, words: str) -> None:
        self._say(f"{dataset}: {words}")

    def study(self, runs: int) -> None:
        first, self._runs = self._runs == 0, runs
        if first:
            self._began = time.monotonic()
            self._say(f"{runs} runs, {self._reused} of them done before")

    def reused(self, run: Run) -> None:
        self._done += 1
        self._reused += 1

    def start(self, run: Run) -> None:
        return None

    def epoch(self, run: Run, epoch: int) -> None:
        return None

    def end(self, run: Run, summary: Record) -> None:
        recall = summary.get("recall_at_1")
        shown = "" if recall is None else f", R@1 {recall:.1%}"
        self._next(f"{title(run)}{shown}")

    def failed(self, run: Run, error: str) -> None:
        self._next(f"{title(run)} failed: {error}")

    def _next(self, words: str) -> None:
        self._done += 1
        elapsed = time.monotonic() - self._began
        left = elapsed / (self._done - self._reused) * max(0, self._runs - self._done)
        self._say(f"[{self._done}/{self._runs}] {words} ({elapsed:.0f} s, about {left:.0f} s left)")

    def _say(self, words: str) -> None:
        self._console.print(Text(one_line(words)), soft_wrap=True)


def title(run: Run) -> str:
    """A run in words: `digits · triplet · seed 0`."""
    which = f"trial {run.extra_columns['trial']}" if run.variant == "trial" else f"seed {run.seed}"
    return f"{run.config.dataset} · {run.title} · {which}"


def watcher(console: Console) -> Bars | Lines:
    """Bars where somebody looks on, lines where nobody does."""
    return Bars(console) if console.is_terminal else Lines(console)
