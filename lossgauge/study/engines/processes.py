"""Processes beside this one, each with a pipe of its own: one that is killed takes nothing along but its run.

No lock is shared and nothing is pickled, which is why this is not multiprocessing: a queue whose owner is killed
while it holds the lock stops every process that waits for it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from lossgauge.results.store import Store
from lossgauge.study.engines import TRIES, Resources, features_file
from lossgauge.study.engines.features_file import write_features_file
from lossgauge.study.run.guarded import End, failed
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet

SILENT_SECONDS = 1.0
"""Where no worker says a word for so long, each is looked at."""

LOG_LINES = 40
"""Of a dead worker's log, kept with the run that it died of."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    orders: IO[bytes]
    answers: IO[bytes]
    log: IO[bytes]
    run: Run | None = None
    unread: bytes = b""


@dataclass
class _Deaths:
    """Of a run's workers, since it last got further."""

    count: int = 0
    reached: int | None = None
    """Epoch of the checkpoint at the last death."""


@dataclass
class Processes:
    """The engine of several jobs on one machine: the cores are shared out among them."""

    resources: Resources
    features: Mapping[str, FeatureSet]
    store: Store
    on_epoch: Callable[[Run, int], None]
    _workers: list[_Worker] = field(default_factory=list)
    _deaths: dict[str, _Deaths] = field(default_factory=dict)
    _files: dict[str, Path] = field(default_factory=dict)
    _hired: int = 0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    @property
    def slots(self) -> int:
        return self.resources.jobs

    def __enter__(self) -> Processes:
        for number, (dataset, features) in enumerate(self.features.items()):
            self._files[dataset] = features_file(self.store, number)
            write_features_file(features, self._files[dataset])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            self._dismiss(worker)
        self._workers.clear()
        self._selector.close()

    def start(self, run: Run) -> None:
        idle = [worker for worker in self._workers if worker.run is None]
        worker = idle[0] if idle else self._hire()
        worker.run = run
        order = {
            "run": run.as_json(),
            "features": str(self._files[run.config.dataset]),
            "device": self.resources.device,
        }
        # one that died idle is found out by `wait`, which sees the end of its output and finds the run another
        with suppress(BrokenPipeError):
            worker.orders.write(json.dumps(order).encode() + b"\n")
            worker.orders.flush()

    def wait(self) -> list[End]:
        ends: list[End] = []
        while not ends:
            heard = self._selector.select(timeout=SILENT_SECONDS)
            for key, _ in heard:
                ends += self._hear(key.data)
            # a process that a loss has started may hold a dead worker's pipe open
            for worker in () if heard else list(self._workers):
                if worker.process.poll() is not None:
                    ends += self._bury(worker)
        return ends

    def _hire(self) -> _Worker:
        self._hired += 1
        log = (self.store.work / f"worker-{self._hired}.log").open("a+b")
        cpus = self.resources.cpus
        threads = str(max(1, int(cpus or len(os.sched_getaffinity(0)) // self.slots)))
        shared_out = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        process = subprocess.Popen(
            # -P: no file of the folder that the study was started in stands in for a library
            [sys.executable, "-P", "-m", "lossgauge.study.engines.worker", str(self.store.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # what the caller's environment says stands, unless this study was told otherwise
            env={**os.environ, **shared_out} if cpus else {**shared_out, **os.environ},
        )
        worker = _Worker(
            process, cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout), log
        )
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: _Worker) -> None:
        """Let a worker go: at once, as its checkpoint is what counts."""
        self._selector.unregister(worker.answers)
        worker.process.kill()
        worker.process.wait()
        worker.answers.close()
        with suppress(BrokenPipeError):
            worker.orders.close()
        worker.log.close()

    def _hear(self, worker: _Worker) -> list[End]:
        heard = os.read(worker.answers.fileno(), 1 << 16)
        if not heard:
            return self._bury(worker)
        *lines, worker.unread = (worker.unread + heard).split(b"\n")
        ends = []
        for line in lines:
            words = json.loads(line)
            run = worker.run
            if run is not None and "epoch" in words:
                self.on_epoch(run, words["epoch"])
            elif run is not None and "ended" in words:
                ends.append(End.from_json(run, words["ended"]))
                worker.run = None
        return ends

    def _bury(self, worker: _Worker) -> list[End]:
        """A worker has died: its run may have been published all the same, is tried again, or is given up."""
        code = worker.process.wait()
        worker.log.seek(0)
        log = worker.log.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        self._workers.remove(worker)
        self._dismiss(worker)
        run = worker.run
        if run is None:
            return []
        if self.store.is_done(run.name):
            return [End(run, self.store.summary(run.name))]
        checkpoint = self.store.checkpoint(run.name)
        reached = int(checkpoint.name) if checkpoint else None
        deaths = self._deaths.setdefault(run.name, _Deaths())
        deaths.count = deaths.count + 1 if deaths.reached == reached else 1
        deaths.reached = reached
        if deaths.count < TRIES:
            self.start(run)
            return []
        del self._deaths[run.name]
        words = f"its worker was ended by {_cause(code)} {TRIES} times in the same place"
        return [failed(run, words, self.store, "\n".join(log), external_failure=True)]


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
