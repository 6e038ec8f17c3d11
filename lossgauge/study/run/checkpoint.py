"""The checkpoints of a run: the only file that writes and reads them.

A checkpoint holds the training state, the rows so far, the probe's state, the best head and those that are kept. Step rows that will not change
any more are written once, into a folder beside the checkpoints; each checkpoint names the files that belong to it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lossgauge.errors import CacheError
from lossgauge.files import (
    AGAIN,
    MOST_ROWS,
    atomic_file,
    check_file,
    damaged,
    fingerprint,
    read_json,
    read_rows,
    read_table,
    remove,
    write_json,
    write_rows,
)
from lossgauge.results.layout import streamed_steps
from lossgauge.results.records import Streamed, check_columns, check_epochs, checked
from lossgauge.results.writer import Store
from lossgauge.study.run.run_log import TIMED, RunLog, by_epoch, heads_of
from lossgauge.training import Training, restore_training, training_state
from lossgauge.types import Record


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run
        self._streamed = 0
        """Number of steps whose rows are in separate files."""
        self._parts: dict[str, Record] = {}
        """Those files, each with its fingerprint."""

    def save(self, training: Training, log: RunLog) -> None:
        """Write a checkpoint in place of the last one."""
        with self._store.new_checkpoint(self._run, training.epoch) as folder:
            save_file(training_state(training), folder / "state.safetensors")
            write_json(folder / "progress.json", {"epoch": training.epoch, "step": training.step})
            write_rows(folder / "epochs.parquet", log.epochs)
            steps = log.steps
            self._stream(streamed_steps(folder), steps[: log.final_steps])
            write_json(folder / "streamed.json", {"parts": self._parts})
            write_rows(folder / "steps.parquet", steps[self._streamed :])
            save_file(log.probe.state(), folder / "probe.safetensors")
            best = {"epoch": torch.tensor(log.best_epoch), **log.best_head}
            save_file(best, folder / "best.safetensors")
            save_file(by_epoch(log.kept_heads), folder / "kept_heads.safetensors")

    def resume(self, training: Training, log: RunLog) -> None:
        """Put the last checkpoint, if there is one, into a run that was just set up and into its empty log.

        Raises CacheError if any part of the checkpoint is damaged.
        """
        folder = self._store.checkpoint(self._run)
        if folder is None:
            self._store.discard_checkpoint(
                self._run
            )  # step rows of a checkpoint that was never finished
            return
        self._store.check_checkpoint(folder)
        epoch, step_count = _progress(folder)
        try:
            state = load_file(folder / "state.safetensors")
            restore_training(training, state, epoch=epoch, step=step_count)
            best = load_file(folder / "best.safetensors")
            log.resume(
                epochs=_epochs(folder, epoch),
                steps=self._steps(folder, step_count),
                probe=load_file(folder / "probe.safetensors"),
                best_epoch=int(best.pop("epoch")),
                best_head=best,
                kept_heads=heads_of(load_file(folder / "kept_heads.safetensors")),
            )
        except (
            *(OSError, SafetensorError, RecursionError),
            *(KeyError, TypeError, ValueError, AttributeError, RuntimeError),
        ) as error:
            raise CacheError(
                f"the checkpoint {folder} cannot be read ({error}); {AGAIN}"
            ) from error

    def _stream(self, folder: Path, final: list[Record]) -> None:
        """Write the rows of `final` that are in no file yet."""
        if len(final) == self._streamed:
            return
        folder.mkdir(exist_ok=True)
        part = folder / f"{self._streamed:09}.parquet"
        with atomic_file(part) as path:
            write_rows(path, final[self._streamed :])
            self._parts[part.name] = fingerprint(path)
        self._streamed = len(final)

    def _steps(self, folder: Path, step_count: int) -> list[Record]:
        """All step rows up to a checkpoint. Files of steps after it are deleted: the steps are done again."""
        path = folder / "streamed.json"
        parts: dict[str, Record] = checked(path, Streamed, read_json(path))["parts"]
        stream = streamed_steps(folder)
        for part in stream.glob("[0-9]*.parquet"):
            if part.name not in parts:
                remove(part)
        steps: list[Record] = []
        for name, expected in sorted(parts.items()):
            check_file(stream / name, expected)
            steps += _timed_rows(stream / name)
        self._streamed, self._parts = len(steps), parts
        steps += _timed_rows(folder / "steps.parquet")
        if len(steps) != step_count or any(row["step"] != at for at, row in enumerate(steps)):
            raise damaged(folder, f"its rows are not those of {step_count} steps")
        return steps


def _progress(folder: Path) -> tuple[int, int]:
    """Epochs and steps done."""
    progress = read_json(folder / "progress.json")
    epoch, step = progress.get("epoch"), progress.get("step")
    if not (type(epoch) is int and type(step) is int and epoch >= 0 and step >= 0):
        raise damaged(folder / "progress.json", "it does not count epochs and steps")
    if epoch != int(folder.name):
        raise damaged(folder, f"it is of epoch {epoch}")
    return epoch, step


def _epochs(folder: Path, epoch: int) -> list[Record]:
    rows = read_rows(folder / "epochs.parquet")
    check_epochs(folder / "epochs.parquet", rows, epoch)
    return rows


def _timed_rows(path: Path) -> list[Record]:
    """Step rows of a file, with their times."""
    table = read_table(path, MOST_ROWS)
    check_columns(path, "steps", table.schema)
    rows: list[Record] = table.to_pylist()
    if any(not isinstance(row.get(column), float) for row in rows for column in TIMED):
        raise damaged(path, "it has rows without a time")
    return rows
