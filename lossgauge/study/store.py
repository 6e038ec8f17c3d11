"""A study's folder: one directory a run, complete or absent, and everything read back from it.

    study.json                 the plan, the runs it asks for, what was left out, the environment
    datasets/<name>.json       fingerprint, counts and reference geometry of a dataset
    runs/<run>/                config, environment, summary, epochs, steps and classes as Parquet, manifest
    partial/<run>/<epoch>/     a checkpoint of a run in progress
    failed/<run>.json          why a run failed; tried again by the same command

A directory appears under its last name by one rename, so it is never seen half-written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lossgauge.errors import CacheError, StudyError
from lossgauge.types import Record, Results

SCHEMA = 1


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder for this process alone. Raises StudyError where another one works in it."""
        try:
            for part in ("runs", "partial", "failed", "datasets"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise StudyError(
                f"cannot write to {self.folder}: {error.strerror}; give another folder with --out"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StudyError(
                    f"another lossgauge study is at work in {self.folder}; "
                    "wait for it, or give another folder with --out"
                ) from None
            # what a killed process was about to publish
            for left in self.folder.rglob(".new-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield

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
        study: Record = _read_json(path)
        if not isinstance(study, dict):
            raise CacheError(f"{path} holds no study; the same study command writes it anew")
        if study.get("schema") != SCHEMA:
            raise StudyError(
                f"{path} is of schema {study.get('schema')}, this lossgauge reads {SCHEMA}; "
                "use the version that wrote it, or run the study anew in another folder"
            )
        missing = {"plan", "choices", "runs", "left_out", "environment"} - set(study)
        if missing:
            raise CacheError(
                f"{path} lacks {sorted(missing)[0]!r}; the same study command writes it anew"
            )
        return study

    def write_dataset(self, name: str, record: Record) -> None:
        """Set down a dataset's fingerprint and references."""
        write_json(self.folder / "datasets" / f"{name}.json", record)

    def has_dataset(self, name: str, record: Record) -> bool:
        """Whether what was set down of a dataset says all that `record` says."""
        path = self.folder / "datasets" / f"{name}.json"
        try:
            return path.is_file() and {**_read_json(path), **record} == _read_json(path)
        except CacheError:
            return False

    def is_done(self, run: str) -> bool:
        """Whether the run is complete and every file in it is what was written; a damaged run counts as failed."""
        if not (self.folder / "runs" / run).is_dir():
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
        manifest = _read_json(folder / "manifest.json")
        for name, digest in manifest.items():
            path = folder / name
            if not path.is_file() or _digest(path) != digest:
                raise CacheError(
                    f"{path} is damaged or missing; the same study command runs it anew"
                )

    def publish(
        self, run: str, *, records: dict[str, Record], tables: dict[str, list[Record]]
    ) -> None:
        """Make a finished run appear, whole; its checkpoints and its old failure go."""
        with self._whole(self.folder / "runs" / run) as folder:
            for name, record in records.items():
                write_json(folder / f"{name}.json", record)
            for name, rows in tables.items():
                write_rows(folder / f"{name}.parquet", rows)
            write_json(
                folder / "manifest.json",
                {path.name: _digest(path) for path in sorted(folder.iterdir())},
            )
        shutil.rmtree(self.folder / "partial" / run, ignore_errors=True)
        (self.folder / "failed" / f"{run}.json").unlink(missing_ok=True)

    def fail(self, run: str, record: Record, *, keep_checkpoint: bool = False) -> None:
        """Set down why a run failed. A checkpoint that led there is kept only on request."""
        write_json(self.folder / "failed" / f"{run}.json", record)
        if not keep_checkpoint:
            shutil.rmtree(self.folder / "partial" / run, ignore_errors=True)

    def checkpoint(self, run: str) -> Path | None:
        """Folder of the run's last checkpoint, if there is one."""
        found = [p for p in (self.folder / "partial" / run).glob("[0-9]*") if p.name.isdigit()]
        return max(found, key=lambda path: int(path.name), default=None)

    @contextmanager
    def new_checkpoint(self, run: str, epoch: int) -> Iterator[Path]:
        """An empty folder to write a checkpoint into; it replaces the older one when the block ends."""
        older = self.checkpoint(run)
        with self._whole(self.folder / "partial" / run / str(epoch)) as folder:
            yield folder
        if older is not None and older.name != str(epoch):
            shutil.rmtree(older)

    def load(self) -> Results:
        """Everything in the folder that the present study asks for. Damaged runs come as failures."""
        study = self.read_study()
        summaries, epochs, failures = [], [], []
        for run in study["runs"]:
            try:
                if (self.folder / "runs" / run["run"]).is_dir():
                    self.check(run["run"])
                    folder = self.folder / "runs" / run["run"]
                    summaries.append({**_read_json(folder / "summary.json"), **run})
                    epochs += [{**row, **run} for row in read_rows(folder / "epochs.parquet")]
                elif (path := self.folder / "failed" / f"{run['run']}.json").is_file():
                    failures.append({**_read_json(path), **run})
            except CacheError as error:
                failures.append({**run, "error": str(error)})
        references = []
        for dataset in dict.fromkeys(run["dataset"] for run in study["runs"]):
            path = self.folder / "datasets" / f"{dataset}.json"
            if path.is_file():
                references += _read_json(path)["references"]
        return Results(
            plan=study["plan"],
            choices=study["choices"],
            summaries=summaries,
            epochs=epochs,
            references=references,
            left_out=study["left_out"],
            failures=failures,
            environment=study["environment"],
        )

    def status(self) -> dict[str, dict[str, str]]:
        """The runs of the present study by state: `done`, `failed`, `begun`, `waiting`; each with its error if any.

        Looks at names only, so it is quick and works while a study runs.
        """
        states: dict[str, dict[str, str]] = {"done": {}, "failed": {}, "begun": {}, "waiting": {}}
        for run in self.read_study()["runs"]:
            name = run["run"]
            failure = self.folder / "failed" / f"{name}.json"
            if (self.folder / "runs" / name).is_dir():
                states["done"][name] = ""
            elif failure.is_file():
                states["failed"][name] = _read_json(failure)["error"]
            elif self.checkpoint(name) is not None:
                states["begun"][name] = ""
            else:
                states["waiting"][name] = ""
        return states

    @contextmanager
    def _whole(self, target: Path) -> Iterator[Path]:
        """A temporary folder beside `target` that becomes it, if the block ends well."""
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
        folder.chmod(0o777 & ~_umask())  # mkdtemp keeps others out; a study is to be shared
        try:
            yield folder
            if target.is_dir():
                shutil.rmtree(target)
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def write_json(path: Path, content: Any) -> None:
    """Write and put in place by one rename. NaN is refused: what is not known is null."""
    text = json.dumps(content, indent=1, allow_nan=False)
    try:
        handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}") from None


def write_rows(path: Path, rows: list[Record]) -> None:
    """Rows as Parquet: a column for each name in any row, None where a row lacks it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


def read_rows(path: Path) -> list[Record]:
    """Rows that `write_rows` wrote. Raises CacheError where the file is damaged."""
    try:
        rows: list[Record] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"{path} cannot be read: {error}") from None
    return rows


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{path} cannot be read ({error}); the same study command writes it anew"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
