"""What a probe's rows, its losses and its last epoch say, by the rules of `lossgauge.health`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lossgauge.distributed.gathered_loss import Gathered
from lossgauge.health.finding import Finding, worst_first
from lossgauge.loop.hooks import unwrapped_loss
from lossgauge.losses.base import Loss
from lossgauge.types import Record

if TYPE_CHECKING:
    from lossgauge.diagnostics.variance import Geometry


class Space(NamedTuple):
    """The space after the last epoch."""

    geometry: Geometry
    """Of normalized rows."""
    width: int


def findings(
    rows: Sequence[Record],
    *,
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    batch: tuple[Tensor, Tensor] | None,
    space: Space | None,
) -> list[Finding]:
    """All findings, the worst first. `batch` is what the first loss was called with last, if it takes embeddings and labels."""
    training, of_space = (import_module(f"lossgauge.health.{n}") for n in ("training", "space"))
    first: Any = unwrapped_loss(modules[0]) if modules else None
    if isinstance(first, Gathered):
        first = first.loss  # alone: the other ranks may not ask for findings
    ours = first if isinstance(first, Loss) else None
    made = [row for row in rows if not row["skipped"]]
    found: list[Finding] = training.training_findings(
        made,
        loss=None if ours is None else type(ours).__name__,
        settings=None if ours is None else {key: getattr(ours, key) for key in ours.settings},
        batch_size=_mean([row["batch_size"] / (row["micro_batch_count"] or 1) for row in made]),
        class_count=_rounded(_mean([row["batch_class_count"] for row in made])),
    )
    for module in modules:
        found += training.optimizer_findings(optimizers, module)
    if first is not None and batch is not None:
        # on a copy, and with other random numbers: the training goes on as if nothing had been asked
        with torch.random.fork_rng(devices=[]):
            found += training.label_findings(copy.deepcopy(first), *batch)
    if space is not None:
        found += of_space.space_findings(space.geometry, width=space.width)
    return worst_first(found)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
