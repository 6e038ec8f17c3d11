"""Features of images, batch after batch, with several processes if it takes long.

Each process has one thread for the network and one for decoding. OpenMP threads were slower: idle threads spin, and
with one other busy process on the machine, the rate of two threads fell from 2,000 to 8 images/s.
"""

from __future__ import annotations

import dataclasses
import logging
import pickle
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import closing

import torch

from lossgauge.data.extraction import Extracted, block_rows, different_sizes, extract_batches
from lossgauge.machine import torch_threads, usable_cores, usable_memory
from lossgauge.types import Backbone, ImageSet
from lossgauge.user_file import imported_files
from lossgauge.worker_process import WorkerProcess, exit_cause

SINGLE_PROCESS_SECONDS = 10.0
"""Extractions shorter than this run only in this process, because workers take about three seconds to start."""

WORKER_BYTES = 500_000_000
"""Memory of a worker, without its two copies of the images and the network (one as received, one in use)."""

_log = logging.getLogger(__name__)


def extract_rows(
    images: ImageSet, backbone: Backbone, *, first: int = 0, jobs: int | None = None
) -> Generator[Extracted, None, None]:
    """Features of the images from number `first`, batch after batch; images that cannot be read have no row.

    At most `jobs` processes run at a time; None means one for each core. The rows do not depend on it. Use it in
    `contextlib.closing`: its processes end when it is closed. Raises DataError for images of two sizes, and if a
    file cannot be accessed.
    """
    jobs = usable_cores() if jobs is None else jobs
    starts = range(first, len(images.ids), block_rows(images))
    size = None
    with torch_threads(1), closing(_batches(images, backbone, starts, jobs)) as batches:
        for batch in batches:
            if batch.first is not None:
                row, shape = batch.first
                size = size or shape
                if shape != size:
                    raise different_sizes(images, backbone, row, size, shape)
            yield batch


def _batches(
    images: ImageSet, backbone: Backbone, starts: range, jobs: int
) -> Generator[Extracted, None, None]:
    """First in this process, then in workers as soon as they are ready, if the rest takes long."""
    workers: _Workers | None = None
    began, done = 0.0, 0
    try:
        with closing(_here(images, backbone, starts)) as batches:
            for done, batch in enumerate(batches, 1):
                yield batch
                if done == 1:  # which takes longer than the others
                    began = time.perf_counter()
                elif workers is None and jobs > 1:
                    seconds = (time.perf_counter() - began) / (done - 1) * (len(starts) - done)
                    if seconds > SINGLE_PROCESS_SECONDS:
                        workers = _Workers(images, backbone, jobs)
                elif workers is not None and workers.are_ready():
                    break
        if workers is not None and done < len(starts):
            for batch in workers.extract(starts[done:]):
                yield batch
                done += 1
            if done < len(starts):
                # an error in a worker is raised here again; if a worker was killed, only its time is lost
                for batch in _here(images, backbone, starts[done:]):
                    workers.warn_once()
                    yield batch
    finally:
        if workers is not None:
            workers.stop()


def _here(images: ImageSet, backbone: Backbone, starts: range) -> Generator[Extracted, None, None]:
    return extract_batches(images, backbone, starts, decoders=usable_cores())


class _Workers:
    """Processes with a copy of the images and the network; none if these cannot be sent, or may be on a GPU."""

    def __init__(self, images: ImageSet, backbone: Backbone, jobs: int) -> None:
        self._processes: list[WorkerProcess] = []
        self._starting: list[WorkerProcess] = []
        self._cause: str | None = None
        self._file = tempfile.NamedTemporaryFile(prefix="lossgauge-")  # noqa: SIM115
        if torch.cuda.is_initialized():
            return
        try:
            pickle.dump([str(path) for path in imported_files()], self._file)
            sent = dataclasses.replace(images, class_names={})
            pickle.dump((sent, backbone), self._file)
            self._file.flush()
        # a user's object may raise anything when it is pickled; and a full disk must not stop the extraction
        except Exception:
            return
        memory = usable_memory()
        if memory is not None:
            jobs = min(jobs, memory // (WORKER_BYTES + 2 * self._file.tell()))
        module, log = "lossgauge.data.extraction_worker", subprocess.DEVNULL
        for _ in range(jobs if jobs > 1 else 0):
            self._processes.append(WorkerProcess(module, self._file.name, threads=1, log=log))
        self._starting = list(self._processes)

    def are_ready(self) -> bool:
        """Whether all workers are ready; if one could not start, all are stopped."""
        for process in [each for each in self._starting if each.connection.poll()]:
            self._starting.remove(process)
            try:
                process.receive()
            except EOFError:
                self.stop()
                break
        if not self._starting:
            self._file.close()  # all workers have read the file, so it can be deleted
        return bool(self._processes) and not self._starting

    def extract(self, starts: range) -> Generator[Extracted, None, None]:
        """The batches in order, until a process ends too early; with n processes, each one does every nth batch."""
        count = len(self._processes)
        for number, process in enumerate(self._processes):
            process.send(starts[number::count])
        for number in range(len(starts)):
            process = self._processes[number % count]
            try:
                rows, *others = process.receive()
            except EOFError:
                self._cause = exit_cause(process.wait())
                self.stop()
                return
            yield Extracted(torch.from_numpy(rows), *others)

    def warn_once(self) -> None:
        """Log why the workers ended too early."""
        if self._cause is not None:
            _log.warning(
                "lossgauge: a process that extracts features was ended by %s; this process extracts the rest",
                self._cause,
            )
        self._cause = None

    def stop(self) -> None:
        """Stop all workers."""
        for process in self._processes:
            process.stop()
        self._processes, self._starting = [], []
        self._file.close()
