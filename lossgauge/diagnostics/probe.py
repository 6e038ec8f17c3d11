"""The recorder of steps: reads each `Step` of a training loop, and stores one row of GREEDINESS for each step.

Studies use it, and `lg.Probe()` without an optimizer. `lg.Probe(optimizer, …)` is `lossgauge/loop/probe.py`, which sees the steps itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lossgauge.diagnostics.greediness import (
    GRADIENT_SHARES,
    START_STEPS,
    gradient_active_ratio,
    gradient_norms,
    start_gradient,
    tangent,
)
from lossgauge.errors import InputError
from lossgauge.types import Evaluation, Record, Step

_QUANTILES = {
    "embedding_gradient_p10": 0.1,
    "embedding_gradient_p50": 0.5,
    "embedding_gradient_p90": 0.9,
}

TOGETHER = 32
"""Steps whose numbers are computed together."""


class _Reading(NamedTuple):
    """The tensors of one step, on their device; the numbers are computed later, for many steps together."""

    step: int
    epoch: int
    evaluation: Evaluation
    norms: Float[Tensor, " batch"]
    tangent_norms: Float[Tensor, " batch"]
    head_gradients: list[Float[Tensor, ""]]
    """Norms, one for each parameter."""
    loss_gradients: list[Float[Tensor, ""]]


class Probe:
    """Collects one row for each step in `rows`.

    It keeps a few numbers for each sample of a batch, for at most `TOGETHER` steps: reading a single number costs
    more than its arithmetic (cold code on a CPU, a synchronisation on a GPU). g₀ is known after ten steps, and the
    earlier rows get their gradient active ratio at that time. For shorter runs, `finish` does this.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        self.start_norms: list[Float[Tensor, " batch"]] = []
        self._rows: list[Record] = []
        self._readings: list[_Reading] = []

    def __call__(self, step: Step) -> None:
        """Record a step: call it after `backward` and before the optimiser's update.

        Raises InputError if the embeddings are not rows of floats.
        """
        _check(step.embeddings)
        gradient = step.embeddings.grad
        if gradient is None:
            gradient = torch.zeros_like(step.embeddings)
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        turning = tangent(gradient, step.embeddings.detach().to(gradient.dtype))
        reading = _Reading(
            step=step.number,
            epoch=step.epoch,
            evaluation=step.evaluation._replace(value=step.evaluation.value.detach()),
            norms=torch.linalg.vector_norm(gradient, dim=1),
            tangent_norms=torch.linalg.vector_norm(turning, dim=1),
            head_gradients=gradient_norms(step.head_parameters),
            loss_gradients=gradient_norms(step.loss_parameters),
        )
        waiting = self._readings
        if waiting and (len(waiting) == TOGETHER or not _alike(waiting[0], reading)):
            self._settle()
        self._readings.append(reading)

    @property
    def rows(self) -> list[Record]:
        """One row for each recorded step."""
        self._settle()
        return self._rows

    def finish(self) -> None:
        """Compute g₀ from the steps recorded so far, if it is not known yet."""
        self._settle()
        if self.start is None and self.start_norms:
            self.start = start_gradient(torch.cat(self.start_norms))
            for row, norms in zip(self._rows, self.start_norms, strict=False):
                self._rate(row, norms)
            self.start_norms = []

    def state(self) -> dict[str, Tensor]:
        """The state that a checkpoint must store in addition to `rows`."""
        self._settle()
        if self.start is not None:
            return {"start": torch.tensor(self.start, dtype=torch.float64)}
        return {f"norms.{index}": norms for index, norms in enumerate(self.start_norms)}

    def resume(self, rows: list[Record], state: dict[str, Tensor]) -> None:
        """Continue from `rows` and the result of `state()`."""
        self._rows, self._readings = rows, []
        self.start = float(state["start"]) if "start" in state else None
        self.start_norms = (
            [state[f"norms.{index}"] for index in range(len(state))] if self.start is None else []
        )

    def _settle(self) -> None:
        """Turn the readings into rows."""
        readings, self._readings = self._readings, []
        if not readings:
            return
        norms = torch.stack([reading.norms for reading in readings]).cpu()
        means = _means(norms)
        tangents = _means(torch.stack([reading.tangent_norms for reading in readings]).cpu())
        quantiles = _quantiles(norms)
        for index, reading in enumerate(readings):
            terms = _terms_row(reading)
            active = terms["term_active_ratio"]
            row = {
                "step": reading.step,
                "epoch": reading.epoch,
                **terms,
                "embedding_gradient": means[index],
                **dict(zip(_QUANTILES, quantiles[index], strict=True)),
                "tangent_gradient": tangents[index],
                "head_gradient": _together(reading.head_gradients),
                "loss_gradient": _together(reading.loss_gradients),
                "gradient_per_active": means[index] / active if active else None,
            }
            self._rows.append(row)
            if self.start is not None:
                self._rate(row, norms[index])
            else:
                self.start_norms.append(norms[index])
                if len(self.start_norms) == START_STEPS:
                    self.finish()

    def _rate(self, row: Record, norms: Float[Tensor, " batch"]) -> None:
        start = math.nan if self.start is None else self.start
        for column, share in GRADIENT_SHARES.items():
            row[column] = known(gradient_active_ratio(norms, start=start, share=share))


def _check(embeddings: object) -> None:
    kept = (
        isinstance(embeddings, Tensor)
        and embeddings.layout == torch.strided
        and not embeddings.is_meta
        and embeddings.is_floating_point()
        and embeddings.ndim == 2
        and len(embeddings) > 0
    )
    if not kept:
        shape = (
            f"{tuple(embeddings.shape)} of {embeddings.dtype}, {embeddings.layout} on {embeddings.device}"
            if isinstance(embeddings, Tensor)
            else type(embeddings).__name__
        )
        raise InputError(
            f"the embeddings of a step must be a dense (rows, width) tensor of floats, got {shape}"
        )


def _terms_row(reading: _Reading) -> Record:
    """The part of a row that the loss itself reports; None for values that a black-box loss does not have."""
    e = reading.evaluation
    ratio = skipped = None
    if e.term_count and e.active_count is not None:
        ratio = e.active_count / e.term_count
    if e.skipped_anchors is not None:
        skipped = e.skipped_anchors / (e.anchor_count or len(reading.norms))
    return {
        "loss_value": float(e.value),
        "term_count": e.term_count,
        "active_count": e.active_count,
        "term_active_ratio": ratio,
        "skipped_anchor_ratio": skipped,
        "mean_weight": None if e.anchor_weight is None else _number(e.anchor_weight.nanmean()),
        "effective_share": known(e.effective_share),
        "pull": _number(e.pull),
        "push": _number(e.push),
        **{name: known(value) for name, value in e.columns.items()},
    }


def known(value: float | None) -> float | None:
    """`value`, or None for NaN: a row has one way to say "not known"."""
    return None if value is None or math.isnan(value) else value


def _means(of_steps: Float[Tensor, "steps batch"]) -> list[float]:
    # numpy sums a row in the same order for any number of rows: a probe that was saved and resumed
    # gives the same bits
    means: list[float] = of_steps.double().numpy().mean(axis=1).tolist()
    return means


def _quantiles(of_steps: Float[Tensor, "steps batch"]) -> list[list[float]]:
    """One row for each step; interpolated linearly between two samples."""
    ascending = np.sort(of_steps.double().numpy(), axis=1)
    places = np.arange(ascending.shape[1])
    at = np.array(list(_QUANTILES.values())) * places[-1]
    return [np.interp(at, places, row).tolist() for row in ascending]


def _number(value: Tensor | None) -> float | None:
    return None if value is None else known(float(value))


def _together(norms: Sequence[Tensor]) -> float | None:
    return known(math.hypot(*map(float, norms))) if norms else None


def _alike(one: _Reading, other: _Reading) -> bool:
    """Whether two readings can be computed together: their batches have the same size."""
    return one.norms.shape == other.norms.shape
