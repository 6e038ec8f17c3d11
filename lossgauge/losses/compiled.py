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

from lossgauge.losses.base import Forces, Outcome, share_of
from lossgauge.losses.softmax_family import NegativeTerms


class Classes(NamedTuple):
    """A batch in the order of its classes."""

    order: Int[Tensor, " batch"]
    """Row numbers, class after class, each in the batch's own order."""
    start: Int[Tensor, " batch"]
    """For each row in that order, where its class begins …"""
    end: Int[Tensor, " batch"]
    """… and where it ends."""


class KernelSpec(NamedTuple):
    """The kernel of a loss and the settings it takes."""

    kernel: str
    """Its name in `lossgauge.kernels.pair_kernels`, which is imported when a loss is first evaluated."""
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
    sweep: KernelSpec, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
) -> Outcome | None:
    """What `Loss.outcome` gives, on a CPU; None on another device. Stores one batch × batch matrix, which becomes G."""
    if embeddings.device.type != "cpu":
        return None
    from lossgauge.kernels import pair_kernels

    order, start, end = by_class(labels)
    rows = embeddings.index_select(0, order)
    floor = 0.0
    if sweep.distances:
        rows.sub_(rows[:1].clone())  # see DistanceLoss
        floor = 2 * torch.finfo(rows.dtype).eps
    batch = len(rows)
    product, gradient = torch.empty(2, *rows.shape, dtype=rows.dtype)
    pull, push = torch.empty(2, batch, dtype=rows.dtype)
    sums, active = torch.empty(4, batch, dtype=torch.float64), torch.empty_like(order)
    matrix = rows @ rows.T
    task = pair_kernels.Task(
        matrix=matrix,
        rows=rows,
        product=product,
        gradient=gradient,
        norms=matrix.diagonal().clone(),
        pull=pull,
        push=push,
        sums=sums,
        settings=torch.tensor((*sweep.settings, floor), dtype=torch.float64),
        active=active,
        start=start,
        end=end,
        order=order,
    )
    pair_kernels.sweep(getattr(pair_kernels, sweep.kernel), task)
    pair_kernels.sweep(pair_kernels.symmetrize, task)
    torch.mm(matrix, rows, out=product)
    pair_kernels.sweep(pair_kernels.forces, task)
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
        effective_share=share_of(
            float(absolute.sum()), float(squared.sum()), pairs=batch * (batch - 1)
        ),
    )


def swept_rivals(
    cosine: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    target: Float[Tensor, " batch"],
    *,
    scale: float,
    tolerance: float,
) -> NegativeTerms | None:
    """What `rival_terms` gives, on a CPU, in place as there; None on another device."""
    if cosine.device.type != "cpu":
        return None
    from lossgauge.kernels import pair_kernels

    sums, active = torch.empty(4, len(labels), dtype=torch.float64), torch.empty_like(labels)
    nothing = torch.empty(0)
    task = pair_kernels.Task(
        matrix=cosine,
        rows=nothing,
        product=nothing,
        gradient=nothing,
        norms=target.contiguous(),
        pull=nothing,
        push=nothing,
        sums=sums,
        settings=torch.tensor((scale, tolerance, 0.0), dtype=torch.float64),
        active=active,
        start=labels.contiguous(),
        end=nothing,
        order=nothing,
    )
    pair_kernels.sweep(pair_kernels.class_rows, task)
    value, weight, absolute, squared = sums
    number = cosine.dtype
    return NegativeTerms(value.to(number), active, weight.to(number), absolute, squared)
