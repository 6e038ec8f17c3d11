"""A pair loss with its compiled kernel: the batch sorted by class, one pass over the rows, three matrix products.

A pair loss needs at least three batch × batch × width products: the similarities, and the two parts of the
gradient. Here the part of the positives is a product over their blocks only, and the terms cost one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.losses.base import Forces, Outcome, share_of


class Classes(NamedTuple):
    """A batch sorted by class."""

    order: Int[Tensor, " batch"]
    """Row numbers, class after class, each in the batch's own order."""
    start: Int[Tensor, " batch"]
    """For each row in that order, the position where its class begins …"""
    end: Int[Tensor, " batch"]
    """… and where it ends."""


class KernelSpec(NamedTuple):
    """The compiled form of a pair loss, with its settings."""

    rows: Callable[..., None]
    """A kernel of `lossgauge.kernels` for a `PairTask`. Import it inside the method: importing numba is slow."""
    settings: tuple[float, float]
    """The margin or temperature, and the tolerance."""
    counts: Callable[[Int[Tensor, " batch"], Int[Tensor, " batch"]], Int[Tensor, " batch"]]
    """Terms of an anchor from the numbers of its positives and its negatives."""
    further: tuple[float, ...] = ()
    """Other settings that the kernel needs, three at most."""


def anchors_with_both(
    positives: Int[Tensor, " batch"], negatives: Int[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """`KernelSpec.counts` of a loss with one term for each anchor that has a positive and a negative."""
    return ((positives > 0) & (negatives > 0)).long()


def by_class(labels: Int[Tensor, " batch"]) -> Classes:
    """The batch sorted by label, stably."""
    ordered, order = labels.sort(stable=True)
    start = torch.searchsorted(ordered, ordered)
    end = torch.searchsorted(ordered, ordered, right=True)
    return Classes(order, start, end)


def compiled_outcome(
    spec: KernelSpec,
    embeddings: Float[Tensor, "batch width"],
    labels: Int[Tensor, " batch"],
    *,
    distances: bool,
) -> Outcome | None:
    """The result of `Loss.outcome`, on a CPU; None on another device. Stores one batch × batch matrix, which becomes G."""
    if embeddings.device.type != "cpu":
        return None
    from lossgauge.kernels.pair_gradient import forces, symmetrize
    from lossgauge.kernels.tasks import PAIR_SETTINGS, PairTask
    from lossgauge.kernels.threads import run_kernel

    order, start, end = by_class(labels)
    rows = embeddings.index_select(0, order)
    rounding = 0.0
    if distances:
        rows.sub_(rows[:1].clone())  # see PairLoss
        rounding = 2 * torch.finfo(rows.dtype).eps
    batch = len(rows)
    product, gradient = torch.empty(2, *rows.shape, dtype=rows.dtype)
    pull, push = torch.empty(2, batch, dtype=rows.dtype)
    sums, active = torch.empty(4, batch, dtype=torch.float64), torch.empty_like(order)
    matrix = rows @ rows.T
    settings = torch.zeros(PAIR_SETTINGS, dtype=torch.float64)
    given = (*spec.settings, rounding, *spec.further)
    settings[: len(given)] = torch.tensor(given, dtype=torch.float64)
    task = PairTask(
        matrix=matrix,
        rows=rows,
        product=product,
        gradient=gradient,
        norms=matrix.diagonal().clone(),
        pull=pull,
        push=push,
        sums=sums,
        settings=settings,
        active=active,
        start=start,
        end=end,
        order=order,
    )
    run_kernel(spec.rows, task)
    run_kernel(symmetrize, task)
    torch.mm(matrix, rows, out=product)
    run_kernel(forces, task)
    positives = torch.empty_like(order).index_copy_(0, order, end - start - 1)
    counts = spec.counts(positives, batch - 1 - positives)
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
