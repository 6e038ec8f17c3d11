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
        self.best_head: dict[str, Tensor] = {}
        """Empty while no epoch is selected by a measurement."""
        self.kept_heads: dict[int, dict[str, Tensor]] = {}
        """Epoch → the head after it."""
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

    def add_epoch(
        self,
        row: Record,
        head: nn.Module,
        *,
        selects_by: str | None,
        start_counts: bool = False,
        keeps_head: bool = False,
    ) -> None:
        """Add the row of an epoch; keep the head if `selects_by` is a column and has its highest value so far.

        Of equal epochs the earliest is kept. Epoch 0, before training, is selected only with `start_counts`. With
        `keeps_head` the head is kept beside the best one.
        """
        self.epochs.append(row)
        if keeps_head:
            self.kept_heads[row["epoch"]] = state_of(head)
        if selects_by is None or (row["epoch"] == 0 and not start_counts):
            return
        value = row.get(selects_by)
        if value is None:
            return
        if not self.best_head or value > self.epochs[self.best_epoch][selects_by]:
            self.best_epoch = row["epoch"]
            self.best_head = state_of(head)

    def resume(
        self,
        *,
        epochs: list[Record],
        steps: list[Record],
        probe: Mapping[str, Tensor],
        best_epoch: int,
        best_head: Mapping[str, Tensor],
        kept_heads: Mapping[int, dict[str, Tensor]],
    ) -> None:
        """Continue from the rows of an earlier log, and from the `state` of its probe. Raises KeyError if one is missing."""
        self._times = [{column: step[column] for column in TIMED} for step in steps]
        rows = [{k: v for k, v in step.items() if k not in TIMED} for step in steps]
        self.probe.resume(rows, dict(probe))
        self.epochs = epochs
        self.best_epoch, self.best_head = best_epoch, dict(best_head)
        self.kept_heads = dict(kept_heads)


def state_of(head: nn.Module) -> dict[str, Tensor]:
    """Copies of the tensors of a head."""
    return {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}


def by_epoch(heads: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Heads as one file of tensors: `5.linear.weight` is that of epoch 5."""
    return {
        f"{epoch}.{name}": tensor for epoch, head in heads.items() for name, tensor in head.items()
    }


def heads_of(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The way back from `by_epoch`. Raises ValueError for a name without an epoch."""
    heads: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        epoch, _, name = key.partition(".")
        heads.setdefault(int(epoch), {})[name] = tensor
    return dict(sorted(heads.items()))
