"""The runner: what a study asks for and its folder lacks, done by an engine; no failure stops the rest."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from lossgauge.files import AGAIN
from lossgauge.plan.assumptions import choices
from lossgauge.plan.study import Plan
from lossgauge.results.store import Store
from lossgauge.study.engines import DEFAULT, Engine, Resources, check_resources, open_engine
from lossgauge.study.prepare import prepare, write_dataset_record
from lossgauge.study.progress import Progress, ProgressGroup
from lossgauge.study.run.summary import environment
from lossgauge.study.schedule.run_queue import Ledger
from lossgauge.study.schedule.runs import Run, check_distinct
from lossgauge.study.status import StatusFile
from lossgauge.types import Record


class Outcome(NamedTuple):
    """Counts of runs, and what was left out."""

    done: int
    reused: int
    failed: int
    left_out: list[Record]


def run_study(
    plan: Plan,
    folder: Path,
    *,
    progress: Progress,
    download: bool = False,
    resources: Resources = DEFAULT,
) -> Outcome:
    """Do what the plan asks for and `folder` lacks. A second call with the same plan goes on where it was.

    A dataset that is not there is left out with its reason; a run that fails is kept as failed, and tried
    again next time. The `resources` says who does the runs, and how many at a time. `download` lets datasets be
    fetched that are not here. Raises LossgaugeError where nothing can be done at all.
    """
    check_resources(resources)
    store = Store(folder)
    store.check_format()
    prepared, left_out = prepare(plan, progress=progress, download=download)
    ledger = Ledger(plan, prepared)
    check_distinct(ledger.given)
    with store.exclusive_lock() as damage:
        for line in damage:
            progress.warning(folder.name, line)
        for found in prepared:
            write_dataset_record(plan, found, store)
        told = ProgressGroup([progress, StatusFile(store, ledger)])
        asked: Record = {
            "plan": plan.model_dump(mode="json"),
            "choices": choices(plan),
            "left_out": left_out,
            "environment": environment(resources.device),
        }

        def save() -> None:
            rows = [{**run.columns, "epochs_planned": run.config.epochs} for run in ledger.runs]
            store.write_study(
                {**asked, "runs": rows, "expected": ledger.expected, "tuned": ledger.tuned()}
            )
            told.study(ledger.expected)

        def on_epoch(run: Run, epoch: int) -> None:
            raise_if_interrupted()
            told.epoch(run, epoch)

        with (
            _interrupts() as raise_if_interrupted,
            open_engine(
                resources,
                features={found.dataset: found for found in prepared},
                store=store,
                on_epoch=on_epoch,
            ) as workers,
        ):
            done, reused, failed = _drive(ledger, store, workers, told, save)
            removed = [name for name in (*done, *reused) if not store.is_there(name)]
            if removed:
                told.warning(
                    folder.name,
                    f"{len(removed)} runs were removed from {folder / 'runs'} while the study was at work; "
                    f"the same `lossgauge study` command does them again: {', '.join(removed)}",
                )
    lost = set(removed)
    return Outcome(len(done - lost), len(reused - lost), len(failed | lost), left_out)


def _drive(
    ledger: Ledger, store: Store, engine: Engine, told: Progress, save: Callable[[], None]
) -> tuple[set[str], set[str], set[str]]:
    """Do all that the ledger opens; the runs that were done, were there, and failed."""
    waiting: deque[Run] = deque()
    seen: dict[str, Record] = {}
    """Every run so far: its summary, {} where it failed or has not ended."""
    done: set[str] = set()
    reused: set[str] = set()
    failed: set[str] = set()
    under_way = 0
    while True:
        while fresh := ledger.next_runs():
            for run in fresh:
                if run.name in seen:
                    told.reused(run)  # as another variant: a loss tuned to its own defaults
                elif _is_done(run, store, told):
                    seen[run.name] = store.summary(run.name)
                    reused.add(run.name)
                    told.reused(run)
                    ledger.ended(run.name, seen[run.name])
                else:
                    seen[run.name] = {}
                    waiting.append(run)
            save()
        while waiting and under_way < engine.slots:
            told.start(waiting[0])
            engine.start(waiting.popleft())
            under_way += 1
        if not under_way:
            return done, reused, failed
        for end in engine.wait():
            under_way -= 1
            seen[end.run.name] = end.summary
            for note in end.notes:
                told.warning(end.run.name, note)
            # a search waits for a trial that failed by no fault of its own, until the same command tries it again:
            # what it proposed without that trial would be proposed, and done, for nothing
            if not end.external_failure:
                ledger.ended(end.run.name, end.summary)
            if end.error is None:
                done.add(end.run.name)
                told.end(end.run, end.summary)
            else:
                failed.add(end.run.name)
                told.failed(end.run, end.error)


def _is_done(run: Run, store: Store, told: Progress) -> bool:
    """Whether a run is there and whole. One that is damaged goes, with one line, and is done again."""
    if (damage := store.damage(run.name)) is not None:
        told.warning(run.name, f"{damage.removesuffix(AGAIN)}the run is done again")
        store.discard_run(run.name)
    return store.is_there(run.name)


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises at once, as ever, and again where the given function is called.

    One that comes while a compiler's callback runs is printed and lost: the study would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    seen = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.set()
        raise KeyboardInterrupt

    def raise_if_interrupted() -> None:
        if seen.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield raise_if_interrupted
    finally:
        signal.signal(signal.SIGINT, before)
