"""The progress of a study: bars in a terminal and in a notebook, plain lines anywhere else, or nothing."""

from __future__ import annotations

import time
from importlib.util import find_spec
from types import TracebackType

import rich.progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lossgauge.results.measures import measures_of
from lossgauge.stats.number_format import counted
from lossgauge.study.progress import Progress
from lossgauge.study.schedule.runs import Run
from lossgauge.terminal import one_line, safe
from lossgauge.types import Record

LINE_SECONDS = 10.0
"""Seconds between two lines about features, at least."""


class Pace:
    """Images per second. An extraction may continue from the middle, so it counts from `done` images on."""

    def __init__(self, done: int) -> None:
        self._first, self._began = done, time.monotonic()

    def rate(self, done: int) -> float:
        """Images per second until now; 0 at the very start."""
        elapsed = time.monotonic() - self._began
        return (done - self._first) / elapsed if elapsed > 0 else 0.0


class Bars(Progress):
    """A bar for all runs, one for each run in progress, and one for the features of each dataset."""

    def __init__(self, console: Console) -> None:
        self._progress = rich.progress.Progress(
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
            description=safe(f"features of {dataset}, {self._pace[dataset].rate(done):.0f} rows/s"),
        )

    def left_out(self, dataset: str, reason: str) -> None:
        self._say(f"{dataset} is left out: {reason}")

    def warning(self, subject: str, words: str) -> None:
        self._say(f"{subject}: {words}")

    def study(self, runs: int) -> None:
        if self._all is None:
            self._all = self._progress.add_task("all runs", total=runs)
        self._progress.update(self._all, total=runs)

    def best(self, words: str) -> None:
        if self._all is not None:
            self._progress.update(self._all, description=safe(f"all runs; best: {words}"))

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
        if self._all is None:  # finished runs are counted before the total is known
            self._all = self._progress.add_task("all runs", total=None)
        self._progress.advance(self._all)


class Lines(Progress):
    """One line per event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs, self._done, self._began, self._last = 0, 0, 0.0, 0.0
        self._reused = self._told = 0
        self._pace: dict[str, Pace] = {}

    def features(self, dataset: str, done: int, total: int) -> None:
        pace = self._pace.setdefault(dataset, Pace(done))
        now = time.monotonic()
        if done == total or now - self._last > LINE_SECONDS:
            self._last = now
            rate = pace.rate(done)
            left = f", about {(total - done) / rate:.0f} s left" if rate and done < total else ""
            self._say(f"features of {dataset}: {done} of {total} rows, {rate:.0f} rows/s{left}")

    def left_out(self, dataset: str, reason: str) -> None:
        self._say(f"{dataset} is left out: {reason}")

    def warning(self, subject: str, words: str) -> None:
        self._say(f"{subject}: {words}")

    def study(self, runs: int) -> None:
        first, self._runs = self._runs == 0, runs
        if first:
            self._began = time.monotonic()
            self._told = self._reused
            self._say(f"{counted(runs, 'run')}, {self._reused} reused")

    def best(self, words: str) -> None:
        self._say(f"best so far: {words}")

    def reused(self, run: Run) -> None:
        self._done += 1
        self._reused += 1

    def end(self, run: Run, summary: Record) -> None:
        column = measures_of(summary).headline[0]
        value = summary.get(column.name)
        shown = "" if value is None else f", {column.title} {value:.1%}"
        self._next(f"{title(run)}{shown}")

    def failed(self, run: Run, error: str) -> None:
        self._next(f"{title(run)} failed: {error}")

    def _next(self, words: str) -> None:
        if self._reused > self._told:  # of a later rung of a search: known only when it begins
            self._say(f"{self._reused - self._told} more reused")
            self._told = self._reused
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


def show_progress(*, quiet: bool = False) -> Progress:
    """What fits the place that this process prints to. `quiet` shows nothing, warnings included.

    Bars go to standard error where that is a terminal, and below the cell of a notebook that has ipywidgets.
    """
    if quiet:
        return Progress()
    notebook = Console()
    if notebook.is_jupyter:
        # without ipywidgets rich draws nothing; and its lines would come as HTML, one block each
        return Bars(notebook) if find_spec("ipywidgets") else Lines(Console(force_jupyter=False))
    return progress_on(Console(stderr=True))


def progress_on(console: Console) -> Progress:
    """Bars where the console can redraw them, else lines."""
    can_redraw = console.is_terminal and not console.is_dumb_terminal
    return Bars(console) if can_redraw else Lines(console)
