"""The probe: reads each `Step` of a training loop, whosever it is, and keeps one row of GREEDINESS a step."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lossgauge.diagnostics.greediness import (
    GRADIENT_SHARES,
    START_STEPS,
    gradient_active_ratio,
    start_gradient,
    tangent,
    total_norm,
)
from lossgauge.types import Evaluation, Record, Step

_QUANTILES = {
    "embedding_gradient_p10": 0.1,
    "embedding_gradient_p50": 0.5,
    "embedding_gradient_p90": 0.9,
}


class Probe:
    """Collects a row a step in `rows`. Stores nothing of a batch but, for the first ten, its gradient norms.

    g₀ is known after ten steps: rows before that get their gradient active ratio then. `finish` gives it
    to shorter runs.
    """

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.start: float | None = None
        self.start_norms: list[Float[Tensor, " batch"]] = []

    def __call__(self, step: Step) -> None:
        """Take the row of a step: after `backward`, before the optimiser moves anything."""
        gradient = step.embeddings.grad
        if gradient is None:
            gradient = torch.zeros_like(step.embeddings)
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        norms = torch.linalg.vector_norm(gradient, dim=1)
        row: Record = {"step": step.number, "epoch": step.epoch, **terms_row(step.evaluation)}
        row["embedding_gradient"] = float(norms.mean())
        quantiles = torch.quantile(norms, norms.new_tensor(list(_QUANTILES.values())))
        row.update(zip(_QUANTILES, quantiles.tolist(), strict=True))
        turning = tangent(gradient, step.embeddings.detach())
        row["tangent_gradient"] = float(torch.linalg.vector_norm(turning, dim=1).mean())
        row["head_gradient"] = known(total_norm(step.head_parameters))
        row["loss_gradient"] = known(total_norm(step.loss_parameters))
        active = row["term_active_ratio"]
        row["gradient_per_active"] = row["embedding_gradient"] / active if active else None
        self.rows.append(row)
        if self.start is None:
            self.start_norms.append(norms)
            if len(self.start_norms) == START_STEPS:
                self.finish()
        else:
            self._rate(row, norms)

    def finish(self) -> None:
        """Fix g₀ on the steps seen so far, if it is not fixed yet."""
        if self.start is None and self.start_norms:
            self.start = start_gradient(torch.cat(self.start_norms))
            for row, norms in zip(self.rows, self.start_norms, strict=False):
                self._rate(row, norms)
            self.start_norms = []

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside `rows`."""
        if self.start is not None:
            return {"start": torch.tensor(self.start, dtype=torch.float64)}
        return {f"norms.{index}": norms for index, norms in enumerate(self.start_norms)}

    def resume(self, rows: list[Record], state: dict[str, Tensor]) -> None:
        """Go on from `rows` and what `state()` gave."""
        self.rows = rows
        self.start = float(state["start"]) if "start" in state else None
        self.start_norms = (
            [state[f"norms.{index}"] for index in range(len(state))] if self.start is None else []
        )

    def _rate(self, row: Record, norms: Float[Tensor, " batch"]) -> None:
        start = math.nan if self.start is None else self.start
        for column, share in GRADIENT_SHARES.items():
            row[column] = known(gradient_active_ratio(norms, start=start, share=share))


def terms_row(evaluation: Evaluation) -> Record:
    """The part of a row that the loss itself tells; None for what a black box does not know."""
    e = evaluation
    ratio = (
        None
        if e.term_count is None or e.active_count is None
        else _share(e.active_count, e.term_count)
    )
    anchors = None if e.anchor_weight is None else len(e.anchor_weight)
    skipped = None if e.skipped_anchors is None or anchors is None else e.skipped_anchors / anchors
    return {
        "loss_value": float(e.value.detach()),
        "term_count": e.term_count,
        "active_count": e.active_count,
        "term_active_ratio": ratio,
        "skipped_anchor_ratio": skipped,
        "mean_weight": None if e.anchor_weight is None else known(float(e.anchor_weight.nanmean())),
        "effective_share": known(e.effective_share),
        "pull": None if e.pull is None else float(e.pull),
        "push": None if e.push is None else float(e.push),
    }


def known(value: float | None) -> float | None:
    """`value`, or None for NaN: a row says "not known" in one way."""
    return None if value is None or math.isnan(value) else value


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
