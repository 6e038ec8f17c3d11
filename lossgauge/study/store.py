"""A study's folder: one directory a run, complete or absent, and everything read back from it.

    study.json                 the plan, the runs it asks for, what was left out, the environment
    datasets/<name>.json       fingerprint, counts and reference geometry of a dataset
    runs/<run>/                config, environment, summary, epochs, steps and classes as Parquet, manifest
    partial/<run>/<epoch>/     a checkpoint of a run in progress
    partial/<run>/steps/       its step rows up to there, streamed
    failed/<run>.json          why a run failed; tried again by the same command
    .work/                     of a study at work: features for workers, their logs, how far it is

A directory appears under its last name by one rename, so it is never seen half-written.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lossgauge.errors import CacheError, StudyError
from lossgauge.study.disk import (
    UNFINISHED,
    digest,
    read_json,
    read_rows,
    remove,
    whole_folder,
    write_json,
    write_rows,
)
from lossgauge.types import Record, Results

SCHEMA = 2

COLUMNS = {"run", "dataset", "loss", "base", "variant", "seed", "epochs_planned"}
"""What study.json says of each run."""

LOCK, WORKERS_LOCK = ".lock", ".workers"
ORPHAN_SECONDS, ENDING_SECONDS = 20.0, 2.0

TIMING = ("seconds", "step_milliseconds", "probe_milliseconds", "probe_share")
"""Columns that the clock wrote: all others are the same for the same run on the same machine."""


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder for this process alone, swept of what killed ones left in it.

        Raises StudyError where another study works in it, or workers of a killed one still do after some seconds,
        and where it holds a study of another schema.
        """
        self.check_schema()
        try:
            for part in ("runs", "partial", "failed", "datasets"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            lock = (self.folder / LOCK).open("a")
            workers = (self.folder / WORKERS_LOCK).open("a")
        except OSError as error:
            raise StudyError(
                f"cannot write to {self.folder}: {error.strerror}; give another folder with --out"
            ) from None
        with lock, workers:
            # not at once: who asks for the status holds the lock for a moment
            if not _locked(lock, fcntl.LOCK_EX, seconds=1):
                raise StudyError(
                    f"another lossgauge study is at work in {self.folder}; "
                    "wait for it, or give another folder with --out"
                )
            # workers whose study was killed end by themselves, but not at once
            if not _locked(workers, fcntl.LOCK_EX, seconds=ORPHAN_SECONDS):
                raise StudyError(
                    f"workers of a study that was killed are still at work in {self.folder}; "
                    "end them (ps shows them as lossgauge.study.engines.worker), or wait"
                )
            fcntl.flock(workers, fcntl.LOCK_UN)
            self.check_schema()
            self._sweep()
            try:
                yield
            finally:
                shutil.rmtree(self.work, ignore_errors=True)
                # a worker is ended wherever it is, in the middle of a folder too; not while others still write
                with suppress(OSError):
                    if _locked(workers, fcntl.LOCK_EX, seconds=ENDING_SECONDS):
                        self._sweep()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """At work in the folder for whoever holds it: while any worker is, no other study can begin there."""
        with (self.folder / WORKERS_LOCK).open("a") as workers:
            fcntl.flock(workers, fcntl.LOCK_SH)
            yield

    def is_held(self) -> bool:
        """Whether a study is at work in the folder now."""
        try:
            with (self.folder / LOCK).open() as lock:
                return not _locked(lock, fcntl.LOCK_SH, seconds=0)
        except OSError:
            return False

    def check_schema(self) -> None:
        """StudyError for a study of another schema; a damaged file is written anew."""
        try:
            self.read_study()
        except CacheError:
            return
        except StudyError:
            if (self.folder / "study.json").is_file():
                raise

    def _sweep(self) -> None:
        # ours alone: the folder may hold other things, an export at work among them
        for place in (".", "runs", "failed", "datasets", "partial/*", "partial/*/*"):
            for left in self.folder.glob(f"{place}/{UNFINISHED}*"):
                remove(left)
        shutil.rmtree(self.work, ignore_errors=True)
        for partial in (self.folder / "partial").iterdir():
            if (self.folder / "runs" / partial.name).is_dir():
                remove(partial)

    @property
    def work(self) -> Path:
        """What only a study in progress needs: features for its workers, their logs, how far it is."""
        return self.folder / ".work"

    def write_study(self, study: Record) -> None:
        """Set down what is asked of this folder. An older study of other settings is replaced; its runs stay."""
        write_json(self.folder / "study.json", {"schema": SCHEMA, **study})

    def read_study(self) -> Record:
        """What `write_study` set down. Raises StudyError where the folder holds no study of this schema."""
        path = self.folder / "study.json"
        if not path.is_file():
            raise StudyError(
                f"{self.folder} holds no study (no study.json); run `lossgauge study` first"
            )
        study: Record = read_json(path)
        if not isinstance(study, dict):
            raise CacheError(f"{path} holds no study; the same study command writes it anew")
        if study.get("schema") != SCHEMA:
            raise StudyError(
                f"{path} is of schema {study.get('schema')}, this lossgauge reads {SCHEMA}; "
                "use the version that wrote it, or run the study anew in another folder"
            )
        needed = {"plan", "choices", "runs", "expected", "tuned", "left_out", "environment"}
        missing = needed - set(study)
        if missing:
            raise CacheError(
                f"{path} lacks {sorted(missing)[0]!r}; the same study command writes it anew"
            )
        if not all(isinstance(run, dict) and run.keys() >= COLUMNS for run in study["runs"]):
            raise CacheError(
                f"{path} holds runs without a name; the same study command writes it anew"
            )
        return study

    def write_dataset(self, name: str, record: Record) -> None:
        """Set down a dataset's fingerprint and references."""
        write_json(self.folder / "datasets" / f"{name}.json", record)

    def has_dataset(self, name: str, record: Record) -> bool:
        """Whether what was set down of a dataset says all that `record` says."""
        found = self._dataset(name)
        return bool(found) and {**found, **record} == found

    def _dataset(self, name: str) -> Record:
        """What was set down of a dataset; empty where that is absent or damaged: it is written anew."""
        try:
            found = read_json(self.folder / "datasets" / f"{name}.json")
        except CacheError:
            return {}
        rows = found.get("references") if isinstance(found, dict) else None
        whole = isinstance(rows, list) and all(
            isinstance(row, dict) and row.keys() >= {"dataset", "reference"} for row in rows
        )
        return found if whole else {}

    def _references(self, name: str) -> list[Record]:
        rows: list[Record] = self._dataset(name).get("references", [])
        return rows

    def is_done(self, run: str) -> bool:
        """Whether the run is complete and every file in it is what was written; a damaged run counts as failed."""
        if not (self.folder / "runs" / run).exists():
            return False
        try:
            self.check(run)
        except CacheError as error:
            self.fail(run, {"error": str(error)})
            return False
        return True

    def check(self, run: str) -> None:
        """CacheError unless each file of the run has the SHA-256 of its manifest."""
        folder = self.folder / "runs" / run
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or "summary.json" not in manifest:
            raise CacheError(
                f"{folder / 'manifest.json'} is no manifest; the same study command runs it anew"
            )
        for name, expected in manifest.items():
            path = folder / name
            if not path.is_file() or digest(path) != expected:
                raise CacheError(
                    f"{path} is damaged or missing; the same study command runs it anew"
                )

    def publish(
        self, run: str, *, records: dict[str, Record], tables: dict[str, list[Record]]
    ) -> None:
        """Make a finished run appear, whole; its checkpoints and its old failure go."""
        with whole_folder(self.folder / "runs" / run) as folder:
            for name, record in records.items():
                write_json(folder / f"{name}.json", record)
            for name, rows in tables.items():
                write_rows(folder / f"{name}.parquet", rows)
            write_json(
                folder / "manifest.json",
                {path.name: digest(path) for path in sorted(folder.iterdir())},
            )
        self.discard_checkpoint(run)
        (self.folder / "failed" / f"{run}.json").unlink(missing_ok=True)

    def fail(self, run: str, record: Record, *, keep_checkpoint: bool = False) -> None:
        """Set down why a run failed. A checkpoint that led there is kept only on request."""
        write_json(self.folder / "failed" / f"{run}.json", record)
        if not keep_checkpoint:
            self.discard_checkpoint(run)

    def failure(self, run: str) -> str | None:
        """Why a run failed; None where it did not. Of a record that cannot be read, that."""
        if not (self.folder / "failed" / f"{run}.json").is_file():
            return None
        return str(self._failure(run).get("error") or "its record cannot be read")

    def _failure(self, run: str) -> Record:
        try:
            record = read_json(self.folder / "failed" / f"{run}.json")
        except CacheError:
            return {}
        return record if isinstance(record, dict) else {}

    def discard_checkpoint(self, run: str) -> None:
        """The run begins anew the next time."""
        shutil.rmtree(self.folder / "partial" / run, ignore_errors=True)

    def checkpoint(self, run: str) -> Path | None:
        """Folder of the run's last checkpoint, if there is one."""
        found = [p for p in (self.folder / "partial" / run).glob("[0-9]*") if p.name.isdigit()]
        return max(found, key=lambda path: int(path.name), default=None)

    @contextmanager
    def new_checkpoint(self, run: str, epoch: int) -> Iterator[Path]:
        """An empty folder to write a checkpoint into; it replaces the older one when the block ends."""
        older = self.checkpoint(run)
        with whole_folder(self.folder / "partial" / run / str(epoch)) as folder:
            yield folder
        if older is not None and older.name != str(epoch):
            shutil.rmtree(older)

    def load(self) -> Results:
        """Everything in the folder that the present study asks for. Damaged runs come as failures."""
        study = self.read_study()
        summaries, epochs, sensitivity, trials, failures, waiting = [], [], [], [], [], []
        for run in study["runs"]:
            try:
                if (self.folder / "runs" / run["run"]).is_dir():
                    self.check(run["run"])
                    folder = self.folder / "runs" / run["run"]
                    summary = {
                        **read_json(folder / "summary.json"),
                        **read_json(folder / "timing.json"),
                        **run,
                    }
                    if run["variant"] == "trial":
                        trials.append(_trial(summary, study["plan"]["selection_metric"]))
                    elif run["variant"] == "sensitivity":
                        sensitivity.append(summary)
                    else:
                        summaries.append(summary)
                        epochs += [{**row, **run} for row in read_rows(folder / "epochs.parquet")]
                elif (error := self.failure(run["run"])) is not None:
                    failure = {**self._failure(run["run"]), "error": error, **run}
                    if run["variant"] == "trial":
                        trials.append({**failure, "objective": None})
                    else:
                        failures.append(failure)
                else:
                    waiting.append(run)
            except CacheError as error:
                failures.append({**run, "error": str(error)})
        datasets = dict.fromkeys(run["dataset"] for run in study["runs"])
        return Results(
            plan=study["plan"],
            choices=study["choices"],
            summaries=summaries,
            epochs=epochs,
            references=[row for dataset in datasets for row in self._references(dataset)],
            left_out=study["left_out"],
            failures=failures,
            environment=study["environment"],
            sensitivity=sensitivity,
            trials=trials,
            tuned=study["tuned"],
            waiting=waiting,
            expected=expected_runs(study),
        )

    def table(self, run: str, name: str) -> list[Record]:
        """Rows of `epochs`, `steps` or `classes` of a finished run. Raises CacheError where they are damaged."""
        return read_rows(self.folder / "runs" / run / f"{name}.parquet")

    def summary(self, run: str) -> Record:
        """What a finished run came to. Raises CacheError where it is damaged."""
        found: Record = read_json(self.folder / "runs" / run / "summary.json")
        return found


def expected_runs(study: Record) -> int:
    """Runs of what study.json tells, each once: the same one may be asked for as two variants."""
    twice = len(study["runs"]) - len({run["run"] for run in study["runs"]})
    return int(study["expected"]) - twice


def _locked(file: IO[str], kind: int, *, seconds: float) -> bool:
    """Whether the lock was had within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise StudyError(
                f"{file.name} cannot be locked ({error.strerror}): give a folder on a file system with locks"
            ) from None


def _trial(summary: Record, metric: str) -> Record:
    """The row of a trial: what was measured on the validation slice is called so."""
    row = {
        (f"validation_{key.removeprefix('test_')}" if _measured(key) else key): value
        for key, value in summary.items()
    }
    return {**row, "objective": summary[metric]}


def _measured(column: str) -> bool:
    return column.startswith(("test_", "recall_at_")) or column in ("r_precision", "map_at_r")
