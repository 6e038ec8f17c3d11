"""Rows of a run in progress, and the best head it had: kept in memory, streamed to disk, and taken up again."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lossgauge.diagnostics.probe import Probe
from lossgauge.files import (
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
from lossgauge.results.records import Streamed, check_columns, check_epochs, checked
from lossgauge.types import Record, Step

SELECTORS = ("best-validation", "oracle")
"""Rules that pick an epoch by a measurement."""

TIMED = ("step_milliseconds", "probe_milliseconds")
"""Columns of a step that the clock writes."""

STREAM = "steps"
"""Folder of the step rows that a run in progress has written for good."""


class RunLog:
    """Rows of a run so far: the probe's steps, timed, and the epochs; and the best head of those measured."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.epochs: list[Record] = []
        self.times: list[Record] = []
        self.last = 0.0
        self.best_epoch = 0
        self.best_head: dict[str, Tensor] = {}
        self.streamed = 0
        """Steps whose rows are on disk already."""
        self._parts: dict[str, Record] = {}
        """Files of those rows, with their fingerprints."""

    @property
    def steps(self) -> list[Record]:
        return [{**row, **times} for row, times in zip(self.probe.rows, self.times, strict=True)]

    def start_clock(self) -> None:
        """Begin to time steps: what came since the last one was no step."""
        self.last = time.perf_counter()

    def stop_clock(self) -> None:
        """The probe works off what it has kept: a part of the last step."""
        began = time.perf_counter()
        _ = self.probe.rows
        spent = 1e3 * (time.perf_counter() - began)
        for column in self.times[-1]:
            self.times[-1][column] += spent

    def take(self, step: Step) -> None:
        began = time.perf_counter()
        self.probe(step)
        now = time.perf_counter()
        self.times.append(
            {
                "step_milliseconds": 1e3 * (now - self.last),
                "probe_milliseconds": 1e3 * (now - began),
            }
        )
        self.last = now

    def keep_if_best(self, head: nn.Module, config: Record) -> None:
        """Keep the head where the last epoch is the best so far by the run's own rule; the earlier of equals."""
        column = _judged_by(config)
        if column is None or (value := self.epochs[-1].get(column)) is None:
            return
        if self.best_epoch == 0 or value > self.epochs[self.best_epoch][column]:
            self.best_epoch = self.epochs[-1]["epoch"]
            self.best_head = {k: v.detach().clone() for k, v in head.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Into a checkpoint's folder. Step rows that will not change any more are streamed beside it, once."""
        write_rows(folder / "epochs.parquet", self.epochs)
        steps = self.steps
        settled = len(steps) if self.probe.start is not None else self.streamed
        if settled > self.streamed:
            part = folder.parent / STREAM / f"{self.streamed:09}.parquet"
            part.parent.mkdir(exist_ok=True)
            with atomic_file(part) as path:
                write_rows(path, steps[self.streamed : settled])
                self._parts[part.name] = fingerprint(path)
            self.streamed = settled
        write_json(folder / "streamed.json", {"parts": self._parts})
        write_rows(folder / "steps.parquet", steps[settled:])
        save_file(self.probe.state(), folder / "probe.safetensors")
        best = {"epoch": torch.tensor(self.best_epoch), **self.best_head}
        save_file(best, folder / "best.safetensors")

    def load(self, folder: Path, *, epoch: int, step_count: int) -> None:
        """From a checkpoint's folder, whose files are as they were written. Raises CacheError where a part is damaged.

        Streamed rows from after the checkpoint are dropped: they come again.
        """
        path = folder / "streamed.json"
        parts = checked(path, Streamed, read_json(path))["parts"]
        stream = folder.parent / STREAM
        for part in stream.glob("[0-9]*.parquet"):
            if part.name not in parts:
                remove(part)
        steps: list[Record] = []
        for name, expected in sorted(parts.items()):
            check_file(stream / name, expected)
            steps += _steps(stream / name)
        self.streamed, self._parts = len(steps), parts
        steps += _steps(folder / "steps.parquet")
        if len(steps) != step_count or any(row["step"] != at for at, row in enumerate(steps)):
            raise damaged(folder, f"its rows are not those of {step_count} steps")
        self.epochs = read_rows(folder / "epochs.parquet")
        check_epochs(folder / "epochs.parquet", self.epochs, epoch)
        self.times = [{column: step.pop(column) for column in TIMED} for step in steps]
        try:
            self.probe.resume(steps, load_file(folder / "probe.safetensors"))
            best = load_file(folder / "best.safetensors")
            self.best_epoch = int(best.pop("epoch"))
            self.best_head = best
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise damaged(folder, f"{type(error).__name__}: {error}") from None


def _steps(path: Path) -> list[Record]:
    """Step rows of a file, each with its times."""
    table = read_table(path, MOST_ROWS)
    check_columns(path, "steps", table.schema)
    rows: list[Record] = table.to_pylist()
    if any(not isinstance(row.get(column), float) for row in rows for column in TIMED):
        raise damaged(path, "it has rows without a time")
    return rows


def _judged_by(config: Record) -> str | None:
    """The column that picks the epoch, where one does: the side that a trial is measured on is the slice."""
    if config["selection"] not in SELECTORS:
        return None
    metric: str = config["selection_metric"]
    on_slice = config["selection"] == "best-validation" and config["measured_on"] == "test"
    return f"validation_{metric}" if on_slice else metric
