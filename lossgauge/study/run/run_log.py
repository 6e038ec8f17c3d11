"""The rows of a run in progress, and the best head it had. In memory only: `checkpoint.py` writes and reads them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor, nn

from lossgauge.diagnostics.probe import Probe
from lossgauge.types import Record, Step

TIMED = ("step_milliseconds", "probe_milliseconds")
"""Columns of a step that the clock writes."""


class RunLog:
    """The rows of a run so far: its epochs, and the probe's steps with their times."""

    def __init__(self) -> None:
        self.probe = Probe()
        self.epochs: list[Record] = []
        self.best_epoch = 0
        """0 while no epoch is selected by a measurement."""
        self.best_head: dict[str, Tensor] = {}
        self._times: list[Record] = []
        self._last_step = 0.0

    @property
    def steps(self) -> list[Record]:
        return [{**row, **times} for row, times in zip(self.probe.rows, self._times, strict=True)]

    @property
    def final_steps(self) -> int:
        """How many of the first steps have rows that will not change any more: all, once the probe has its start."""
        return len(self._times) if self.probe.start is not None else 0

    def start_clock(self) -> None:
        """Begin to time steps: the time before was no step."""
        self._last_step = time.perf_counter()

    def take(self, step: Step) -> None:
        """Give a step to the probe, and time both."""
        began = time.perf_counter()
        self.probe(step)
        now = time.perf_counter()
        self._times.append(
            {
                "step_milliseconds": 1e3 * (now - self._last_step),
                "probe_milliseconds": 1e3 * (now - began),
            }
        )
        self._last_step = now

    def stop_clock(self) -> None:
        """Let the probe compute what it has put off: it counts as a part of the last step."""
        began = time.perf_counter()
        _ = self.probe.rows
        spent = 1e3 * (time.perf_counter() - began)
        for column in TIMED:
            self._times[-1][column] += spent

    def add_epoch(self, row: Record, head: nn.Module, *, selects_by: str | None) -> None:
        """Add the row of an epoch; keep the head if `selects_by` is a column and has its highest value so far.

        Of equal epochs the earliest is kept. Epoch 0, before training, is never selected.
        """
        self.epochs.append(row)
        if selects_by is None or row["epoch"] == 0:
            return
        value = row.get(selects_by)
        if value is None:
            return
        if self.best_epoch == 0 or value > self.epochs[self.best_epoch][selects_by]:
            self.best_epoch = row["epoch"]
            self.best_head = {k: v.detach().clone() for k, v in head.state_dict().items()}

    def resume(
        self,
        *,
        epochs: list[Record],
        steps: list[Record],
        probe: Mapping[str, Tensor],
        best_epoch: int,
        best_head: Mapping[str, Tensor],
    ) -> None:
        """Continue from the rows of an earlier log, and from the `state` of its probe. Raises KeyError if one is missing."""
        self._times = [{column: step[column] for column in TIMED} for step in steps]
        rows = [{k: v for k, v in step.items() if k not in TIMED} for step in steps]
        self.probe.resume(rows, dict(probe))
        self.epochs = epochs
        self.best_epoch, self.best_head = best_epoch, dict(best_head)
