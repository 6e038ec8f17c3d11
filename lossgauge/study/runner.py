"""The runner: an engine does the runs of a study that are missing in its folder; a failed run does not stop the others."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from lossgauge.errors import LossgaugeError
from lossgauge.files import AGAIN
from lossgauge.machine import torch_threads
from lossgauge.plan.assumptions import assumptions
from lossgauge.plan.study import Plan
from lossgauge.results.reader import read_study
from lossgauge.results.writer import Store
from lossgauge.stats.number_format import counted
from lossgauge.study.engines import (
    DEFAULT,
    Engine,
    Resources,
    Setup,
    check_resources,
    engine_class,
)
from lossgauge.study.examples.changed_queries import write_query_changes
from lossgauge.study.examples.row_source import ImageRows, row_source
from lossgauge.study.examples.write import write_examples
from lossgauge.study.job_count import with_jobs
from lossgauge.study.log_file import LogFile
from lossgauge.study.prepare import prepare, write_dataset_record
from lossgauge.study.progress import Progress, ProgressGroup
from lossgauge.study.run.guarded import End
from lossgauge.study.run.summary import environment
from lossgauge.study.schedule.run_queue import Ledger, RunQueue
from lossgauge.study.schedule.runs import Run, check_distinct
from lossgauge.study.status import StatusFile
from lossgauge.study.time_limit import TimeLimit
from lossgauge.types import Backbone, FeatureSet, ImageSet, Record


class Outcome(NamedTuple):
    """Counts of runs, and what was left out."""

    done: int
    reused: int
    failed: int
    left_out: list[Record]
    not_started: int = 0
    """Runs that were left for the next call, because they would end after the time limit."""


def run_study(
    plan: Plan,
    folder: Path,
    *,
    progress: Progress,
    download: bool = False,
    resources: Resources = DEFAULT,
    limit: TimeLimit | None = None,
) -> Outcome:
    """Do the runs of the plan that are missing in `folder`. A second call with the same plan continues the study.

    A dataset that is not there is left out with its reason; a run that fails is kept as failed, and tried
    again next time. `resources` says what does the runs, and how many at a time. `download` lets datasets be
    fetched that are not here. With a `limit`, runs that would end after it are not started; a later call does them.
    Raises LossgaugeError where nothing can be done at all.
    """
    check_resources(resources)
    Store(folder).check_format()
    # one number of threads from here on: the references are numbers of the study too
    with torch_threads(resources.threads):
        images: dict[str, ImageRows] = {}

        def on_images(of: ImageSet, backbone: Backbone) -> None:
            images[of.name] = ImageRows(of, backbone)

        prepared, left_out = prepare(
            plan,
            progress=progress,
            download=download,
            jobs=resources.jobs,
            on_images=on_images,
        )
        return do_runs(
            RunQueue(plan, prepared),
            folder,
            plan=plan,
            prepared=prepared,
            left_out=left_out,
            progress=progress,
            resources=resources,
            limit=limit,
            images=images,
        )


def do_runs(
    ledger: Ledger,
    folder: Path,
    *,
    plan: Plan,
    prepared: Sequence[FeatureSet],
    left_out: list[Record],
    progress: Progress,
    resources: Resources = DEFAULT,
    limit: TimeLimit | None = None,
    images: Mapping[str, ImageRows] | None = None,
) -> Outcome:
    """Do the runs that a ledger asks for on prepared features and that are missing in `folder`.

    With `images`, those of each dataset that has some, the rows are written that its page shows.
    """
    store = Store(folder)
    with torch_threads(resources.threads):
        check_distinct(ledger.given)
        with store.exclusive_lock() as damage:
            for line in damage:
                progress.warning(folder.name, line)
            for features in prepared:
                write_dataset_record(plan, features, store)
            header: Record = {
                "plan": plan.model_dump(mode="json"),
                "assumptions": assumptions(plan),
                "left_out": left_out,
                "environment": environment(resources.device),
            }
            log = LogFile(store.layout.log, header["environment"])
            watchers = ProgressGroup([progress, StatusFile(store, ledger), log])
            runs = _Runs(ledger, store, watchers, header, limit or TimeLimit())
            with log, _interrupts() as raise_if_interrupted:
                for row in left_out:
                    log.left_out(row["dataset"], row["reason"])

                def on_epoch(run: Run, epoch: int) -> None:
                    raise_if_interrupted()
                    watchers.epoch(run, epoch)

                setup = Setup(
                    with_jobs(resources, ledger, store),
                    {features.dataset: features for features in prepared},
                    store,
                    on_epoch,
                )
                with engine_class(setup.resources.engine)(setup) as engine:
                    runs.do_all(engine)
                removed = runs.removed()
                outcome = Outcome(
                    done=len(runs.done - removed),
                    reused=len(runs.reused - removed),
                    failed=len(runs.failed | removed),
                    left_out=left_out,
                    not_started=runs.not_started,
                )
                log.summary = in_words(outcome)
            if images is not None:
                _write_examples(plan, prepared, images, store, progress)
    return outcome


def in_words(outcome: Outcome) -> str:
    """`3 runs done, 2 reused, 0 failed`."""
    line = f"{counted(outcome.done, 'run')} done, {outcome.reused} reused, {outcome.failed} failed"
    if not outcome.not_started:
        return line
    return f"{line}, {outcome.not_started} not started"


def _write_examples(
    plan: Plan,
    prepared: Sequence[FeatureSet],
    images: Mapping[str, ImageRows],
    store: Store,
    progress: Progress,
) -> None:
    """What a page shows of each dataset's rows. A problem there costs no run: it becomes a warning."""
    try:
        view = read_study(store.folder)
        for features in prepared:
            of = images.get(features.dataset)
            if features.pairs is not None:
                source = row_source(plan, features, of)
                write_query_changes(view, features, source, store)
                continue
            for line in write_examples(plan, view, features, of, store):
                progress.warning(features.dataset, line)
    except LossgaugeError as error:
        progress.warning(store.folder.name, f"the page will show no rows of the data: {error}")


class _Runs:
    """All runs of a study: waiting, running, reused, done or failed."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        watchers: Progress,
        header: Record,
        limit: TimeLimit,
    ) -> None:
        self._ledger, self._store, self._watchers, self._header = ledger, store, watchers, header
        self._limit = limit
        self._waiting: deque[Run] = deque()
        self._summaries: dict[str, Record] = {}
        """Of every run so far; {} where it failed or has not ended."""
        self._stated: Record = {}
        """What study.json says of the searches."""
        self.done: set[str] = set()
        self.reused: set[str] = set()
        self.failed: set[str] = set()

    def do_all(self, engine: Engine) -> None:
        """Do all that the ledger asks for; the end of a run may make it ask for more."""
        running = 0
        while True:
            while fresh := self._ledger.next_runs():
                for run in fresh:
                    self._add(run)
                self._write_study()
            while running < engine.slots and (following := self._next()) is not None:
                self._watchers.start(following)
                self._limit.start(following)
                engine.start(following)
                running += 1
            if not running:
                # a search whose last trial failed asks for no run, but it is over
                if self._stated != self._searches():
                    self._write_study()
                return
            for end in engine.wait():
                self._end(end)
                running -= 1

    @property
    def not_started(self) -> int:
        """Expected runs that no call has done: they would end after the time limit. Those that a search has not asked for
        yet are among them."""
        if not self._waiting:
            return 0
        return self._ledger.expected - len(self._summaries) + len(self._waiting)

    def _next(self) -> Run | None:
        """The first waiting run that would end in time."""
        for place, run in enumerate(self._waiting):
            if self._limit.allows(run):
                del self._waiting[place]
                return run
        return None

    def removed(self) -> set[str]:
        """Runs that ended well, but are no longer in the folder; the watchers are warned of them."""
        names = [n for n in (*self.done, *self.reused) if not self._store.is_there(n)]
        if names:
            self._watchers.warning(
                self._store.folder.name,
                f"{counted(len(names), 'run')} {'was' if len(names) == 1 else 'were'} removed from {self._store.folder / 'runs'} while the study was running; "
                f"{AGAIN} to repeat them: {', '.join(names)}",
            )
        return set(names)

    def _add(self, run: Run) -> None:
        if run.name in self._summaries:
            self._watchers.reused(run)  # as another variant: a loss tuned to its own defaults
        elif self._is_done(run):
            self._summaries[run.name] = self._store.summary(run.name)
            self.reused.add(run.name)
            self._watchers.reused(run)
            self._ledger.ended(run.name, self._summaries[run.name])
        else:
            self._summaries[run.name] = {}
            self._waiting.append(run)

    def _is_done(self, run: Run) -> bool:
        """Whether a run is there and whole. One that is damaged is deleted, with one line, and done again."""
        if (damage := self._store.damage(run.name)) is not None:
            self._watchers.warning(run.name, f"{damage.removesuffix(AGAIN)}the run is done again")
            self._store.discard_run(run.name)
        return self._store.is_there(run.name)

    def _end(self, end: End) -> None:
        name = end.run.name
        self._limit.end(end.run)
        self._summaries[name] = end.summary
        for note in end.notes:
            self._watchers.warning(name, note)
        # a search waits for a trial that failed for an external reason, until the same command tries it again:
        # what it proposed without that trial would be proposed, and done, for nothing
        if not end.external_failure:
            self._ledger.ended(name, end.summary)
        if end.error is None:
            self.done.add(name)
            self._watchers.end(end.run, end.summary)
        else:
            self.failed.add(name)
            self._watchers.failed(end.run, end.error)

    def _write_study(self) -> None:
        rows = [{**run.columns, "epochs_planned": run.config.epochs} for run in self._ledger.runs]
        self._stated = self._searches()
        self._store.write_study({**self._header, "runs": rows, **self._stated})
        self._watchers.study(self._ledger.expected)

    def _searches(self) -> Record:
        return {"expected": self._ledger.expected, "tuned": self._ledger.tuned()}


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C does what it did before, which is to raise, and raises again where the given function is called.

    An exception that is raised while a compiler's callback runs is printed and lost: the study would continue.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    seen = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.set()
        if callable(before):
            before(number, frame)
        else:  # it was ignored
            raise KeyboardInterrupt

    def raise_if_interrupted() -> None:
        if seen.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield raise_if_interrupted
    finally:
        signal.signal(signal.SIGINT, before)
