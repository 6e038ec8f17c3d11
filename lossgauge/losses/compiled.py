"""A pair loss by its compiled kernel: sorted by class, one pass over the rows, three products.

The floor of a pair loss is three batch × batch × width products: the similarities, and the two parts of the
gradient. Here the positives' part is a product over their blocks alone, and the terms cost one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.losses.base import Forces, Outcome


class Classes(NamedTuple):
    """A batch in the order of its classes."""

    order: Int[Tensor, " batch"]
    """Row numbers, class after class, each in the batch's own order."""
    start: Int[Tensor, " batch"]
    """For each row in that order, where its class begins …"""
    end: Int[Tensor, " batch"]
    """… and where it ends."""


class Sweep(NamedTuple):
    """The kernel of a loss and the settings it takes."""

    kernel: str
    """Its name in `lossgauge.kernels.rows`, which is imported when a loss is first evaluated."""
    settings: tuple[float, ...]
    distances: bool
    """Whether it weighs squared distances (it is then given the norms) or dot products."""
    counts: Callable[[Int[Tensor, " batch"], Int[Tensor, " batch"]], Int[Tensor, " batch"]]
    """Terms of an anchor from the numbers of its positives and its negatives."""


def by_class(labels: Int[Tensor, " batch"]) -> Classes:
    """The batch sorted by label, stably."""
    ordered, order = labels.sort(stable=True)
    start = torch.searchsorted(ordered, ordered)
    end = torch.searchsorted(ordered, ordered, right=True)
    return Classes(order, start, end)


def swept_outcome(
    sweep: Sweep, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
) -> Outcome | None:
    """What `Loss.outcome` gives, on a CPU; None on another device. Stores one batch × batch matrix, which becomes G."""
    if embeddings.device.type != "cpu":
        return None
    from lossgauge.kernels import rows as kernels
    from lossgauge.kernels.team import Task, share_out

    order, start, end = by_class(labels)
    rows = embeddings.index_select(0, order)
    floor = 0.0
    if sweep.distances:
        rows = rows - rows[:1]  # see DistanceLoss
        floor = 2 * torch.finfo(rows.dtype).eps
    batch = len(rows)
    product, gradient = torch.empty(2, *rows.shape, dtype=rows.dtype)
    pull, push = torch.empty(2, batch, dtype=rows.dtype)
    sums, active = torch.empty(4, batch, dtype=torch.float64), torch.empty_like(order)
    settings = torch.tensor((*sweep.settings, floor), dtype=torch.float64)
    matrix = rows @ rows.T
    norms = matrix.diagonal().clone()
    tensors = (matrix, rows, product, gradient, norms, pull, push, sums, settings, active, start, end, order)  # fmt: skip
    task = Task(*(tensor.numpy() for tensor in tensors))
    number = task.matrix.dtype.type
    share_out(kernels.entry(getattr(kernels, sweep.kernel), number), task)
    share_out(kernels.entry(kernels.symmetrize, number), task)
    torch.mm(matrix, rows, out=product)
    share_out(kernels.entry(kernels.forces, number), task)
    positives = torch.empty_like(order).index_copy_(0, order, end - start - 1)
    counts = sweep.counts(positives, batch - 1 - positives)
    value, weight, absolute, squared = sums
    return Outcome(
        value=value.to(rows.dtype),
        counts=counts,
        active=active,
        weight=weight.to(rows.dtype),
        forces=Forces(gradient, pull, push),
        skipped_anchors=int((counts == 0).sum()),
        effective_share=_share(float(absolute.sum()), float(squared.sum()), batch),
    )


def _share(total: float, squares: float, rows: int) -> float:
    return total**2 / squares / (rows * (rows - 1)) if squares else float("nan")
