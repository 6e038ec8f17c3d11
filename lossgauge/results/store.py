"""A study's folder: one directory a run, complete or absent, and everything read back from it.

    study.json                 the plan, the runs it asks for, what was left out, the environment
    datasets/<name>.json       fingerprint, counts and reference geometry of a dataset
    runs/<run>/                config, environment, summary, epochs, steps and classes as Parquet, manifest
    partial/<run>/<epoch>/     a checkpoint of a run in progress, with a manifest likewise
    partial/<run>/steps/       its step rows up to there, streamed
    failed/<run>.json          why a run failed; tried again by the same command
    .work/                     of a study at work: features for workers, their logs, how far it is

A directory appears under its last name by one rename, so it is never seen half-written. What is read back has the
checksum that was written with it and is of its model in `records`; anything else is an error, never a number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from lossgauge.errors import CacheError, StudyError
from lossgauge.files import (
    AGAIN,
    MANIFEST,
    UNFINISHED,
    check_folder,
    damaged,
    folder_with_manifest,
    read_json,
    read_rows,
    read_schema,
    read_unverified,
    remove,
    write_json,
    write_rows,
)
from lossgauge.results.locks import EXCLUSIVE, SHARED, Lock, opened
from lossgauge.results.records import (
    Config,
    Dataset,
    Failure,
    Study,
    Summary,
    Timing,
    check_columns,
    check_epochs,
    checked,
)
from lossgauge.types import Record, Results

FORMAT = 3
"""Of the folder: `format` in study.json. Since 3 every record has a checksum; 1 and 2 were called `schema`."""

STUDY, LOCK, WORKERS_LOCK = "study.json", ".lock", ".workers"
ORPHAN_SECONDS, ENDING_SECONDS = 20.0, 2.0

TIMING = ("seconds", "step_milliseconds", "probe_milliseconds", "probe_share")
"""Columns that the clock wrote: all others are the same for the same run on the same machine."""

TABLES = ("epochs", "steps", "classes")
RUN_FILES = {
    *("config.json", "summary.json", "timing.json", "environment.json"),
    *(f"{name}.parquet" for name in TABLES),
}
CHECKPOINT_FILES = {
    *("state.safetensors", "progress.json", "probe.safetensors", "best.safetensors"),
    *("epochs.parquet", "steps.parquet", "streamed.json"),
}
"""What the manifest of a checkpoint must name, and that of a finished run."""


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def exclusive_lock(self) -> Iterator[list[str]]:
        """The folder for this process alone, swept of what killed ones left in it. Gives a line for each damaged record.

        Such records are deleted, for the study to write them again. Raises StudyError where another study works in the
        folder, or workers of a killed one still do after some seconds, and where it holds a study of another format.
        """
        self.check_format()
        with ExitStack() as stack:
            try:
                for part in ("runs", "partial", "failed", "datasets"):
                    (self.folder / part).mkdir(parents=True, exist_ok=True)
                study = stack.enter_context(self._lock(LOCK))
                workers = stack.enter_context(self._lock(WORKERS_LOCK))
            except OSError as error:
                raise StudyError(
                    f"cannot write to {self.folder}: {error.strerror}; give another folder with --out"
                ) from None
            # not at once: who asks for the status holds the lock for a moment
            if not study.take(EXCLUSIVE, seconds=1):
                raise StudyError(
                    f"another lossgauge study is at work in {self.folder}; "
                    "wait for it, or give another folder with --out"
                )
            # workers whose study was killed end by themselves, but not at once
            if not workers.take(EXCLUSIVE, seconds=ORPHAN_SECONDS):
                raise StudyError(
                    f"workers of a study that was killed are still at work in {self.folder}; "
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
                    # a worker is ended wherever it is, in the middle of a folder too; not while others still write
                    if workers.take(EXCLUSIVE, seconds=ENDING_SECONDS):
                        self._sweep()

    @contextmanager
    def shared_lock(self) -> Iterator[None]:
        """At work in the folder for whoever holds it: while any worker is, no other study can begin there."""
        (self.folder / "partial").mkdir(exist_ok=True)
        with self._lock(WORKERS_LOCK) as workers:
            workers.take(SHARED, seconds=ORPHAN_SECONDS)
            yield

    def is_locked(self) -> bool:
        """Whether a study is at work in the folder now."""
        try:
            with self._lock(LOCK, create=False) as lock:
                return not lock.take(SHARED, seconds=0)
        except (OSError, StudyError):
            return False

    def _lock(self, name: str, *, create: bool = True) -> AbstractContextManager[Lock]:
        beside = self.folder if name == LOCK else self.folder / "partial"
        return opened(self.folder / name, beside, create=create)

    def check_format(self) -> None:
        """StudyError for a study of another format. A damaged file is of no other format: it is written again."""
        with suppress(CacheError):
            if os.path.lexists(self.folder / STUDY):
                self.read_study()

    def _discard_damaged(self) -> list[str]:
        """Delete what is damaged of the study's own record, of datasets and of failures: a line for each."""
        datasets = sorted((self.folder / "datasets").glob("*.json"))
        failures = sorted((self.folder / "failed").glob("*.json"))
        reads: list[tuple[Path, Callable[[], object]]] = [
            *((path, partial(self._dataset, path.stem)) for path in datasets),
            *((path, partial(self._failure, path.stem)) for path in failures),
        ]
        if os.path.lexists(self.folder / STUDY):
            reads.append((self.folder / STUDY, self.read_study))
        lines = []
        for path, read in reads:
            try:
                read()
            except CacheError as error:
                remove(path)
                words = str(error).removeprefix(f"{self.folder}{os.sep}").removesuffix(AGAIN)
                lines.append(f"{words}the study deletes it and writes it again when needed")
        return lines

    def _sweep(self) -> None:
        # ours alone: the folder may hold other things, an export at work among them
        for place in (".", "runs", "failed", "datasets", "partial/*", "partial/*/*"):
            for left in self.folder.glob(f"{place}/{UNFINISHED}*"):
                remove(left)
        self._clear_work()
        for begun in (self.folder / "partial").iterdir():
            if (self.folder / "runs" / begun.name).is_dir():
                remove(begun)

    def _clear_work(self) -> None:
        with suppress(OSError):  # a worker that lives on may write into it
            remove(self.work)

    @property
    def work(self) -> Path:
        """What only a study in progress needs: features for its workers, their logs, how far it is."""
        return self.folder / ".work"

    def write_study(self, study: Record) -> None:
        """Keep what is asked of this folder. An older study of other settings is replaced; its runs stay."""
        write_json(self.folder / STUDY, {"format": FORMAT, **study})

    def read_study(self) -> Record:
        """What `write_study` wrote. Raises StudyError where the folder holds no study of this format."""
        path = self.folder / STUDY
        if not os.path.lexists(path):
            raise StudyError(
                f"{self.folder} holds no study (no {STUDY}); run `lossgauge study` first"
            )
        try:
            study = read_json(path)
        except CacheError:
            # records of the formats 1 and 2 had no checksum
            if (older := read_unverified(path).get("schema")) is None:
                raise
            raise self._other_format(older) from None
        if study.get("format") != FORMAT:
            raise self._other_format(study.get("format"))
        return checked(path, Study, study)

    def _other_format(self, number: object) -> StudyError:
        return StudyError(
            f"{self.folder / STUDY} is of format {str(number)[:20]}, this lossgauge reads {FORMAT}; "
            "use the version that wrote it, or give another folder with --out"
        )

    def write_dataset(self, name: str, record: Record) -> None:
        """Keep a dataset's fingerprint and references."""
        write_json(self.folder / "datasets" / f"{name}.json", record)

    def has_dataset(self, name: str, record: Record) -> bool:
        """Whether what is kept of a dataset says all that `record` says."""
        try:
            kept = self._dataset(name)
        except CacheError:
            return False
        return {**kept, **record} == kept

    def _dataset(self, name: str) -> Record:
        path = self.folder / "datasets" / f"{name}.json"
        record = checked(path, Dataset, read_json(path))
        if record["dataset"] != name:
            raise damaged(path, f"it is of the dataset {record['dataset']!r}")
        return record

    def is_done(self, run: str) -> bool:
        """Whether the run is complete, and every file in it is what was written."""
        return os.path.lexists(self.folder / "runs" / run) and self.damage(run) is None

    def is_there(self, run: str) -> bool:
        """Whether the run has all its files. They are not read."""
        folder = self.folder / "runs" / run
        return all(os.path.isfile(folder / name) for name in (MANIFEST, *RUN_FILES))

    def damage(self, run: str) -> str | None:
        """What is wrong with a run that is there; None where it is whole, or not there."""
        if not os.path.lexists(self.folder / "runs" / run):
            return None
        try:
            self.check(run)
        except CacheError as error:
            return str(error)
        return None

    def check(self, run: str) -> None:
        """CacheError unless each file of the run has the SHA-256 of its manifest, and holds what a run's files hold."""
        self._measured(run)

    def _measured(self, run: str) -> tuple[Record, list[Record]]:
        """Summary and timing in one row, and the epochs. Raises CacheError where any file of the run is damaged."""
        folder = self.folder / "runs" / run
        check_folder(folder, of=run, needed=RUN_FILES)
        summary = self.summary(run)
        timing = checked(folder / "timing.json", Timing, read_json(folder / "timing.json"))
        checked(folder / "config.json", Config, read_json(folder / "config.json"))
        for name in TABLES:
            path = folder / f"{name}.parquet"
            check_columns(path, name, read_schema(path))
        epochs = read_rows(folder / "epochs.parquet")
        check_epochs(folder / "epochs.parquet", epochs, summary["epochs"])
        return {**summary, **timing}, epochs

    def publish(
        self, run: str, *, records: dict[str, Record], tables: dict[str, list[Record]]
    ) -> None:
        """Make a finished run appear, whole; its checkpoints and its old failure go."""
        with folder_with_manifest(self.folder / "runs" / run, of=run) as folder:
            for name, record in records.items():
                write_json(folder / f"{name}.json", record)
            for name, rows in tables.items():
                write_rows(folder / f"{name}.parquet", rows)
        self.discard_checkpoint(run)
        remove(self.folder / "failed" / f"{run}.json")

    def fail(self, run: str, record: Record, *, keep_checkpoint: bool = False) -> None:
        """Keep why a run failed. A checkpoint that led there is kept only on request."""
        write_json(self.folder / "failed" / f"{run}.json", record)
        if not keep_checkpoint:
            self.discard_checkpoint(run)

    def discard_run(self, run: str) -> None:
        """A damaged run goes: it is done again."""
        remove(self.folder / "runs" / run)

    def failure(self, run: str) -> Record | None:
        """Why a run failed: `error` and, where it is known, `traceback`. None where it did not."""
        if not os.path.lexists(self.folder / "failed" / f"{run}.json"):
            return None
        try:
            return self._failure(run)
        except CacheError as error:
            return {"error": str(error)}

    def _failure(self, run: str) -> Record:
        path = self.folder / "failed" / f"{run}.json"
        return checked(path, Failure, read_json(path))

    def discard_checkpoint(self, run: str, checkpoint: Path | None = None) -> None:
        """One checkpoint goes; without it, all that is kept of the run in progress."""
        with suppress(OSError):
            remove(self.folder / "partial" / run if checkpoint is None else checkpoint)

    def checkpoint(self, run: str) -> Path | None:
        """Folder of the run's last checkpoint, if there is one."""
        kept = [
            path
            for path in (self.folder / "partial" / run).glob("[0-9]*")
            if path.name.isascii() and path.name.isdigit()
        ]
        return max(kept, key=lambda path: int(path.name), default=None)

    def check_checkpoint(self, checkpoint: Path) -> None:
        """CacheError unless each file of a checkpoint is what was written."""
        of = f"{checkpoint.parent.name}/{checkpoint.name}"
        check_folder(checkpoint, of=of, needed=CHECKPOINT_FILES)

    @contextmanager
    def new_checkpoint(self, run: str, epoch: int) -> Iterator[Path]:
        """An empty folder to write a checkpoint into; it replaces the older one when the block ends."""
        older = self.checkpoint(run)
        target = self.folder / "partial" / run / str(epoch)
        with folder_with_manifest(target, of=f"{run}/{epoch}") as folder:
            yield folder
        if older is not None and older.name != str(epoch):
            remove(older)

    def load(self) -> Results:
        """Everything in the folder that the present study asks for. Damaged runs come as failures.

        Raises CacheError where the study's own record or that of a dataset is damaged.
        """
        study = self.read_study()
        summaries, epochs, sensitivity, trials, failures, waiting = [], [], [], [], [], []
        for run in study["runs"]:
            name = run["run"]
            if os.path.lexists(self.folder / "runs" / name):
                try:
                    summary, rows = self._measured(name)
                except CacheError as error:
                    failures.append({**run, "error": str(error)})
                    continue
                summary |= run
                if run["variant"] == "trial":
                    trials.append(_trial(summary, study["plan"]["selection_metric"]))
                elif run["variant"] == "sensitivity":
                    sensitivity.append(summary)
                else:
                    summaries.append(summary)
                    epochs += [{**row, **run} for row in rows]
            elif (failure := self.failure(name)) is None:
                waiting.append(run)
            elif run["variant"] == "trial":
                trials.append({**failure, **run, "objective": None})
            else:
                failures.append({**failure, **run})
        datasets = dict.fromkeys(run["dataset"] for run in study["runs"])
        return Results(
            plan=study["plan"],
            choices=study["choices"],
            summaries=summaries,
            epochs=epochs,
            references=[row for name in datasets for row in self._dataset(name)["references"]],
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
        path = self.folder / "runs" / run / "summary.json"
        return checked(path, Summary, read_json(path))


def expected_runs(study: Record) -> int:
    """Runs of what study.json tells, each once: the same one may be asked for as two variants."""
    twice = len(study["runs"]) - len({run["run"] for run in study["runs"]})
    return int(study["expected"]) - twice


def _trial(summary: Record, metric: str) -> Record:
    """The row of a trial: what was measured on the validation slice is called so."""
    row = {
        (f"validation_{key.removeprefix('test_')}" if _measured(key) else key): value
        for key, value in summary.items()
    }
    return {**row, "objective": summary[metric]}


def _measured(column: str) -> bool:
    return column.startswith(("test_", "recall_at_")) or column in ("r_precision", "map_at_r")
