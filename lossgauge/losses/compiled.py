"""A pair loss with its compiled kernel: the batch sorted by class, one pass over the rows, three matrix products.

A pair loss needs at least three batch × batch × width products: the similarities, and the two parts of the
gradient. Here the part of the positives is a product over their blocks only, and the terms cost one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
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
    beside: Callable[..., None] | None = None
    """A kernel that adds forces which are not in the matrix to its product with the rows; they count as push."""
    finish: Callable[[Outcome, Float[Tensor, "2 batch"]], Outcome] | None = None
    """Adds to the outcome what follows from the kernel's two sums of its own."""


def anchors_with_both(
    positives: Int[Tensor, " batch"], negatives: Int[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """`KernelSpec.counts` of a loss with one term for each anchor that has a positive and a negative."""
    return ((positives > 0) & (negatives > 0)).long()


def by_class(labels: Int[Tensor, " batch"]) -> Classes:
    """The batch sorted by label, stably; of labels on a CPU."""
    numbers = labels.numpy()  # a small batch costs less in numpy than in torch
    order = numbers.argsort(kind="stable")
    ordered = numbers[order]
    start, end = ordered.searchsorted(ordered), ordered.searchsorted(ordered, side="right")
    return Classes(*map(torch.from_numpy, (order, start, end)))


def compiled_outcome(
    spec: KernelSpec,
    embeddings: Float[Tensor, "batch width"],
    labels: Int[Tensor, " batch"],
    *,
    distances: bool,
) -> Outcome | None:
    """The result of `Loss.outcome`, on a CPU; None where the kernel cannot be used. Stores one batch × batch matrix, which becomes G."""
    if embeddings.device.type != "cpu":
        return None
    from lossgauge.kernels.pair_gradient import forces, symmetrize
    from lossgauge.kernels.tasks import PAIR_SETTINGS, PAIR_SUMS, PairTask
    from lossgauge.kernels.threads import run_kernel

    order, start, end = by_class(labels)
    if spec.beside is not None and end[0] == len(end):
        return None  # a batch of one class: `forces` takes its pull as the whole gradient
    rows = embeddings.index_select(0, order)
    rounding = 0.0
    if distances:
        rows = rows - rows[0]  # see PairLoss
        rounding = 2 * torch.finfo(rows.dtype).eps
    batch = len(rows)
    product, gradient = torch.empty_like(rows), torch.empty_like(rows)
    pull, push = rows.new_empty(2, batch).unbind()
    sums = torch.empty(PAIR_SUMS, batch, dtype=torch.float64)
    active, positives = torch.empty_like(order), torch.empty_like(order)
    matrix = rows @ rows.T
    settings = np.zeros(PAIR_SETTINGS)
    settings[: 3 + len(spec.further)] = (*spec.settings, rounding, *spec.further)
    task = PairTask(
        matrix=matrix,
        rows=rows,
        product=product,
        gradient=gradient,
        norms=matrix.diagonal().clone() if distances else matrix.new_empty(0),
        pull=pull,
        push=push,
        sums=sums,
        settings=torch.from_numpy(settings),
        active=active,
        positives=positives,
        start=start,
        end=end,
        order=order,
    )
    run_kernel(spec.rows, task)
    run_kernel(symmetrize, task)
    torch.mm(matrix, rows, out=product)
    if spec.beside is not None:
        run_kernel(spec.beside, task)
    run_kernel(forces, task)
    counts = spec.counts(positives, batch - 1 - positives)
    value, weight = sums[:2].to(rows.dtype).unbind()
    absolute, squared = sums[2:4].sum(dim=1).tolist()
    outcome = Outcome(
        value=value,
        counts=counts,
        active=active,
        weight=weight,
        forces=Forces(gradient, pull, push),
        skipped_anchors=batch - int(counts.count_nonzero()),
        effective_share=share_of(absolute, squared, pairs=batch * (batch - 1)),
    )
    return outcome if spec.finish is None else spec.finish(outcome, sums[4:])
