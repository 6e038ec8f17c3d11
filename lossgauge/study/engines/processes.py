"""Processes beside this one: one that crashes costs its run some seconds, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import IO

from lossgauge.study.engines.base import TRIES, Engine, Resources, Setup, check_local
from lossgauge.study.engines.features_file import write_features_files
from lossgauge.study.run.guarded import End, failed
from lossgauge.study.schedule.runs import Run
from lossgauge.worker_process import WorkerProcess, exit_cause

SILENT_SECONDS = 1.0
"""Where no worker sends a message for so long, each process is looked at."""

LOG_LINES = 40
"""Of a crashed worker's log, kept with its run."""


@dataclass(eq=False)
class _Worker:
    process: WorkerProcess
    log: IO[bytes]
    run: Run | None = None


@dataclass
class _Crashes:
    """Of a run's workers, since it last got further."""

    count: int = 0
    epoch: int | None = None
    """Of the checkpoint at the last crash."""


class Processes(Engine):
    """The engine of several jobs on one machine. Workers are started when a run needs one."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._store = setup, setup.store
        self.slots = setup.resources.jobs or 1
        self._workers: list[_Worker] = []
        self._started = 0
        self._crashes: dict[str, _Crashes] = {}
        self._files: dict[str, Path] = {}

    @staticmethod
    def check(resources: Resources) -> None:
        check_local(resources)

    def __enter__(self) -> Processes:
        self._files = write_features_files(self._setup.features, self._store)
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in list(self._workers):
            self._stop(worker)

    def start(self, run: Run) -> None:
        idle = [worker for worker in self._workers if worker.run is None]
        worker = idle[0] if idle else self._spawn()
        worker.run = run
        # where it has just ended this is lost: `wait` sees the end, and starts the run again
        worker.process.send(
            {
                "run": run.as_json(),
                "features": str(self._files[run.config.dataset]),
                "device": self._setup.resources.device,
            }
        )

    def wait(self) -> list[End]:
        ends: list[End] = []
        while not ends:
            by_connection = {worker.process.connection: worker for worker in self._workers}
            ready = connection.wait(list(by_connection), timeout=SILENT_SECONDS)
            for one in ready:
                ends += self._read_message(by_connection[one])  # type: ignore[index]
            # a process that a loss has started may keep a crashed worker's connection open
            for worker in () if ready else list(self._workers):
                if worker.process.exit_code is not None:
                    ends += self._on_exit(worker)
        return ends

    def _spawn(self) -> _Worker:
        self._started += 1
        log = (self._store.work / f"worker-{self._started}.log").open("a+b")
        process = WorkerProcess(
            "lossgauge.study.engines.worker",
            str(self._store.folder),
            threads=self._setup.resources.threads,
            log=log,
        )
        worker = _Worker(process, log)
        self._workers.append(worker)
        return worker

    def _stop(self, worker: _Worker) -> None:
        """End a worker at once: its checkpoint is what counts."""
        self._workers.remove(worker)
        worker.process.stop()
        worker.log.close()

    def _read_message(self, worker: _Worker) -> list[End]:
        try:
            message = worker.process.receive()
        except EOFError:
            return self._on_exit(worker)
        run = worker.run
        if run is None:
            return []
        if "epoch" in message:
            self._setup.on_epoch(run, message["epoch"])
            return []
        worker.run = None
        return [End.from_json(run, message["ended"])]

    def _on_exit(self, worker: _Worker) -> list[End]:
        """A worker has crashed: its run may be published all the same, is tried again, or is given up."""
        code = worker.process.wait()
        worker.log.seek(0)
        log = worker.log.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        self._stop(worker)
        run = worker.run
        if run is None:
            return []
        if self._store.is_done(run.name):
            return [End(run, self._store.summary(run.name))]
        checkpoint = self._store.checkpoint(run.name)
        epoch = int(checkpoint.name) if checkpoint else None
        crashes = self._crashes.setdefault(run.name, _Crashes())
        crashes.count = crashes.count + 1 if crashes.epoch == epoch else 1
        crashes.epoch = epoch
        if crashes.count < TRIES:
            self.start(run)
            return []
        del self._crashes[run.name]
        words = f"its worker was ended by {exit_cause(code)} {TRIES} times in the same place"
        return [failed(run, words, self._store, "\n".join(log), external_failure=True)]
