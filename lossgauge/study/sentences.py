"""Outcome, forecast and status of a study, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lossgauge.stats.number_format import counted
from lossgauge.study.forecast import Detectable, Forecast
from lossgauge.study.runner import Outcome, in_words
from lossgauge.study.status import Status
from lossgauge.terminal import one_line


def outcome_line(outcome: Outcome, minutes: float | None = None) -> str:
    """`3 runs done, 2 reused, 0 failed`; and what a time limit of some minutes left out."""
    line = in_words(outcome)
    if not outcome.not_started or minutes is None:
        return line
    unit = "minute" if minutes == 1 else "minutes"
    would = "it" if outcome.not_started == 1 else "they"
    return f"{line}, because {would} would end after {minutes:g} {unit}; to continue, run the same command again"


def forecast_lines(forecast: Forecast, folder: Path) -> Iterator[str]:
    """The runs of each dataset, then runs, time and disk of the whole study."""
    yield from forecast.grid
    yield f"{counted(forecast.runs, 'run')}, {forecast.there} of them done in {folder}"
    jobs = forecast.jobs
    at_best = f"; with {jobs} jobs at least {duration(forecast.seconds / jobs)}" if jobs > 1 else ""
    yield f"about {duration(forecast.seconds)}, one run after the other{at_best}"
    yield f"about {forecast.bytes / 1e6:,.1f} MB"
    for of in forecast.detectable:
        yield _detectable(of)
    if forecast.idle_cores:
        cores = counted(forecast.idle_cores, "core")
        yield f"there are fewer runs than cores, so {cores} will be idle; --cpus gives each run more threads"


def _detectable(of: Detectable) -> str:
    """What the planned seeds and queries can show; with one seed, nothing about the losses."""
    queries = counted(of.queries, "query")
    if of.seeds == 1:
        return f"{of.dataset}: one seed shows nothing about the losses, only about the trained heads: plan three seeds or more"
    return (
        f"{of.dataset}: with {of.seeds} seeds and {queries}, a difference of {100 * of.difference:.1f} points of {of.measure} between "
        "two losses is found with a chance of 80 %, if seeds and queries vary as docs/run-a-study.md assumes"
    )


def status_lines(status: Status) -> Iterator[str]:
    """How many runs are in each state, then each run in progress, each failure, and the time left."""
    states = {name: getattr(status, name) for name in ("done", "running", "failed", "waiting")}
    for name, runs in states.items():
        yield f"{name:8} {len(runs)}"
    not_scheduled = status.expected - sum(map(len, states.values()))
    if not_scheduled > 0:
        yield f"{'later':8} {not_scheduled} (not scheduled yet: they depend on trials of a search)"
    for run, (epoch, epochs) in status.running.items():
        yield f"running: {run}: epoch {epoch} of {epochs}"
    for run, error in status.failed.items():
        yield f"failed: {run}: {one_line(error)}"
    if status.seconds_left is not None:
        yield f"about {duration(status.seconds_left)} left"
    elif not status.at_work and (status.waiting or status.failed or not_scheduled > 0):
        yield "no study is running here; to continue, run the same `lossgauge study` command"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
