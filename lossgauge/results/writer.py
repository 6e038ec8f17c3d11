"""Writes a study's folder: the folder of a run is complete or absent.

A folder gets its final name with one rename, so no process sees an incomplete one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa

from lossgauge.errors import CacheError, DiskError, StudyError
from lossgauge.files import (
    AGAIN,
    MANIFEST,
    UNFINISHED,
    atomic_file,
    check_folder,
    fingerprint,
    folder_with_manifest,
    read_rows,
    remove,
    write_json,
    write_rows,
    write_table,
)
from lossgauge.results import reader
from lossgauge.results.layout import (
    CENTERED_QUERIES,
    CHECKPOINT_FILES,
    FORMAT,
    FROZEN_QUERIES,
    RUN_FILES,
    SHARED_FOLDERS,
    Layout,
)
from lossgauge.results.locks import EXCLUSIVE, SHARED, Lock, opened
from lossgauge.types import Record

ORPHAN_SECONDS, ENDING_SECONDS = 20.0, 2.0
"""How long a study waits for the workers of a killed study, and at its end for its own workers."""


class Store:
    """One study's folder, as the running study writes and reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder)

    # locks

    @contextmanager
    def exclusive_lock(self) -> Iterator[list[str]]:
        """Locks the folder for this process and removes temporary files. Returns one line for each damaged record.

        Damaged records are deleted, and the study writes them again. Raises StudyError if another study runs in the
        folder, if workers of a killed study still run after some seconds, and for a study of another format.
        """
        self.check_format()
        with ExitStack() as stack:
            try:
                for part in SHARED_FOLDERS:
                    (self.folder / part).mkdir(parents=True, exist_ok=True)
                study = stack.enter_context(self._study_lock())
                workers = stack.enter_context(self._workers_lock())
            except OSError as error:
                raise StudyError(
                    f"cannot write to {self.folder}: {error.strerror}; give another folder with --out"
                ) from None
            # not at once: `lossgauge status` holds the lock for a moment
            if not study.take(EXCLUSIVE, seconds=1):
                raise StudyError(
                    f"another lossgauge study is running in {self.folder}; "
                    "wait until it ends, or give another folder with --out"
                )
            # workers whose study was killed end by themselves, but not at once
            if not workers.take(EXCLUSIVE, seconds=ORPHAN_SECONDS):
                raise StudyError(
                    f"worker processes of a killed study are still running in {self.folder}; "
                    "end them (ps shows them as lossgauge.study.engines.worker), or wait"
                )
            workers.release()
            self.check_format()
            self._sweep()
            try:
                yield self._discard_damaged()
            finally:
                self._clear_work()
                with suppress(OSError):
                    # a worker may be stopped in the middle of writing a folder; not while others still write
                    if workers.take(EXCLUSIVE, seconds=ENDING_SECONDS):
                        self._sweep()

    @contextmanager
    def shared_lock(self) -> Iterator[None]:
        """The lock of a worker: while a worker holds it, no other study can start in the folder."""
        self.layout.partial_runs.mkdir(exist_ok=True)
        with self._workers_lock() as workers:
            workers.take(SHARED, seconds=ORPHAN_SECONDS)
            yield

    def is_locked(self) -> bool:
        """Whether a study is running in the folder now."""
        try:
            with self._study_lock(create=False) as lock:
                return not lock.take(SHARED, seconds=0)
        except (OSError, StudyError):
            return False

    def _study_lock(self, *, create: bool = True) -> AbstractContextManager[Lock]:
        return opened(self.layout.lock, self.folder, create=create)

    def _workers_lock(self) -> AbstractContextManager[Lock]:
        return opened(self.layout.workers_lock, self.layout.partial_runs)

    def _sweep(self) -> None:
        # only our own files: the folder may contain other things, such as an export in progress
        for place in (".", "runs", "failed", "datasets", "examples", "partial/*", "partial/*/*"):
            for left in self.folder.glob(f"{place}/{UNFINISHED}*"):
                remove(left)
        self._clear_work()
        for started in self.layout.partial_runs.iterdir():
            if self.layout.run(started.name).is_dir():
                remove(started)

    def _clear_work(self) -> None:
        with suppress(OSError):  # a worker that is still alive may write into it
            remove(self.layout.work)

    def _discard_damaged(self) -> list[str]:
        """Delete damaged records of the study, of datasets and of failures. Returns one line for each."""
        reads: list[tuple[Path, Callable[[], object]]] = [
            *(
                (path, partial(reader.dataset_record, self.layout, path.stem))
                for path in sorted(self.layout.datasets.glob("*.json"))
            ),
            *(
                (path, partial(reader.failure_record, self.layout, path.stem))
                for path in sorted(self.layout.failures.glob("*.json"))
            ),
        ]
        if os.path.lexists(self.layout.study):
            reads.append((self.layout.study, self.read_study))
        lines = []
        for path, read in reads:
            try:
                read()
            except CacheError as error:
                remove(path)
                words = str(error).removeprefix(f"{self.folder}{os.sep}").removesuffix(AGAIN)
                lines.append(f"{words}the study deletes it and writes it again when needed")
        return lines

    @property
    def work(self) -> Path:
        """The files that only a running study needs: features for its workers, their logs, its progress."""
        return self.layout.work

    # the study and its datasets

    def check_format(self) -> None:
        """StudyError for a study of another format. A damaged file gives no error, because it is written again."""
        reader.check_format(self.layout)

    def write_study(self, study: Record) -> None:
        """Store the plan and the list of runs. An older study with other settings is replaced; its runs stay."""
        write_json(self.layout.study, {"format": FORMAT, **study})

    def read_study(self) -> Record:
        """The record of `write_study`. Raises StudyError if the folder contains no study of this format."""
        return reader.study_record(self.layout)

    def write_dataset(
        self,
        name: str,
        record: Record,
        frozen_queries: pa.Table | None = None,
        centered_queries: pa.Table | None = None,
    ) -> None:
        """Store the fingerprint and the references of a dataset, and the queries of its frozen features and of the centered raw model."""
        layout = self.layout
        for key, target, queries in (
            (FROZEN_QUERIES, layout.frozen_queries(name), frozen_queries),
            (CENTERED_QUERIES, layout.centered_queries(name), centered_queries),
        ):
            if queries is None:
                continue
            try:
                with atomic_file(target) as path:
                    write_table(path, queries)
            except OSError as error:
                raise DiskError(f"{target} cannot be written: {error.strerror or error}") from None
            record = {**record, key: fingerprint(target)}
        write_json(self.layout.dataset(name), record)

    def write_answer(
        self, asked: str, sentences: Sequence[Record], *, loss: str, seed: int
    ) -> None:
        """Store the answer of `lossgauge advise`, which the page repeats: for each sentence its `topic` and its `text`; and
        the run that stands for it, whose head `lossgauge head` takes.
        """
        record = {"asked": asked, "sentences": list(sentences), "loss": loss, "seed": seed}
        write_json(self.layout.answer, record)

    def has_dataset(self, name: str, record: Record) -> bool:
        """Whether the stored record of a dataset contains everything in `record`."""
        try:
            kept = reader.dataset_record(self.layout, name)
        except CacheError:
            return False
        return {**kept, **record} == kept

    def write_examples(
        self, dataset: str, *, records: Mapping[str, Record], tables: Mapping[str, pa.Table]
    ) -> None:
        """Write what a page shows of a dataset's rows, all of it or nothing. Raises DiskError if the disk refuses."""
        target = self.layout.examples(dataset)
        try:
            with folder_with_manifest(target, of=dataset) as folder:
                for name, record in records.items():
                    write_json(folder / f"{name}.json", record)
                for name, table in tables.items():
                    write_table(folder / f"{name}.parquet", table)
        except OSError as error:
            raise DiskError(f"{target} cannot be written: {error.strerror or error}") from None

    def write_query_changes(self, dataset: str, record: Record) -> None:
        """Write the queries of a dataset that got better and worse. Raises DiskError if the disk refuses."""
        target = self.layout.query_changes(dataset)
        try:
            target.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise DiskError(f"{target} cannot be written: {error.strerror or error}") from None
        write_json(target, record)

    # finished and failed runs

    def is_done(self, run: str) -> bool:
        """Whether the run is complete and not damaged. Nothing is changed."""
        return os.path.lexists(self.layout.run(run)) and self.damage(run) is None

    def is_there(self, run: str) -> bool:
        """Whether the run has all its files. They are not read."""
        folder = self.layout.run(run)
        return all(os.path.isfile(folder / name) for name in (MANIFEST, *RUN_FILES))

    def damage(self, run: str) -> str | None:
        """The damage of a finished run; None if it is complete or does not exist."""
        return reader.damage_of(self.layout, run)

    def check(self, run: str) -> None:
        """CacheError unless each file of the run has the SHA-256 in its manifest, and fits its model."""
        reader.read_run(self.layout, run)

    def summary(self, run: str) -> Record:
        """The summary of a finished run. Raises CacheError if it is damaged."""
        return reader.summary_of(self.layout, run)

    def table(self, run: str, name: str) -> list[Record]:
        """Rows of a table of a finished run. Raises CacheError if they are damaged."""
        return read_rows(self.layout.table(run, name))

    def publish(
        self,
        run: str,
        *,
        records: Mapping[str, Record],
        tables: Mapping[str, list[Record] | pa.Table],
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write a finished run atomically, and `files` by their names; its checkpoints and its old failure are deleted."""
        with folder_with_manifest(self.layout.run(run), of=run) as folder:
            for name, record in records.items():
                write_json(folder / f"{name}.json", record)
            for name, rows in tables.items():
                write = write_rows if isinstance(rows, list) else write_table
                write(folder / f"{name}.parquet", rows)
            for name, content in (files or {}).items():
                (folder / name).write_bytes(content)
        self.discard_checkpoint(run)
        remove(self.layout.failure(run))

    def discard_run(self, run: str) -> None:
        """Delete a damaged run, so that it is run again."""
        remove(self.layout.run(run))

    def fail(self, run: str, record: Record, *, keep_checkpoint: bool = False) -> None:
        """Store why a run failed. Its checkpoint is kept only on request."""
        write_json(self.layout.failure(run), record)
        if not keep_checkpoint:
            self.discard_checkpoint(run)

    def failure(self, run: str) -> Record | None:
        """Why a run failed: `error` and, if known, `traceback`. None if it did not fail."""
        return reader.failure_or_damage(self.layout, run)

    # checkpoints of runs in progress

    def checkpoint(self, run: str) -> Path | None:
        """Folder of the run's last checkpoint, if there is one."""
        checkpoints = self.layout.checkpoints(run)
        return checkpoints[-1] if checkpoints else None

    def check_checkpoint(self, checkpoint: Path) -> None:
        """CacheError unless each file of a checkpoint is unchanged since it was written."""
        of = f"{checkpoint.parent.name}/{checkpoint.name}"
        check_folder(checkpoint, of=of, needed=CHECKPOINT_FILES)

    @contextmanager
    def new_checkpoint(self, run: str, epoch: int) -> Iterator[Path]:
        """An empty folder to write a checkpoint into; it replaces the older one when the block ends."""
        older = self.checkpoint(run)
        target = self.layout.checkpoint(run, epoch)
        with folder_with_manifest(target, of=f"{run}/{epoch}") as folder:
            yield folder
        if older is not None and older.name != str(epoch):
            remove(older)

    def discard_checkpoint(self, run: str, checkpoint: Path | None = None) -> None:
        """Delete one checkpoint; without a checkpoint, delete all stored files of the run in progress."""
        with suppress(OSError):
            remove(self.layout.partial(run) if checkpoint is None else checkpoint)
