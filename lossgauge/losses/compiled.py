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
    blocks: list[tuple[int, int]]

    def unsorted(self, values: Tensor) -> Tensor:
        """`values`, one a row in class order, in the batch's own order."""
        return torch.empty_like(values).index_copy_(0, self.order, values)


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
    sizes = ordered.unique_consecutive(return_counts=True)[1]
    ends = sizes.cumsum(0)
    starts = ends - sizes
    blocks = list(zip(starts.tolist(), ends.tolist(), strict=True))
    return Classes(order, starts.repeat_interleave(sizes), ends.repeat_interleave(sizes), blocks)


def swept_outcome(
    sweep: Sweep, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
) -> Outcome | None:
    """What `Loss.outcome` gives, on a CPU; None on another device. Stores one batch × batch matrix, which becomes G."""
    if embeddings.device.type != "cpu":
        return None
    from numba import set_num_threads

    from lossgauge.kernels import rows as kernels

    threads = torch.get_num_threads()
    set_num_threads(min(threads, _most_threads()))
    classes = by_class(labels)
    rows = embeddings[classes.order]
    if sweep.distances:
        rows = rows - rows[:1]  # see DistanceLoss
    matrix = rows @ rows.T
    start, end = classes.start.numpy(), classes.end.numpy()
    value, weight, absolute, squared = torch.zeros(4, len(rows), dtype=torch.float64)
    active = torch.zeros(len(rows), dtype=torch.int64)
    norms: tuple[object, ...] = ()
    if sweep.distances:
        norms = (2 * torch.finfo(rows.dtype).eps, matrix.diagonal().clone().numpy())
    sums = (value, weight, active, absolute, squared)
    kernel = getattr(kernels, sweep.kernel)
    kernel(matrix.numpy(), start, end, *norms, *sweep.settings, *(s.numpy() for s in sums))
    kernels.symmetrize(matrix.numpy())
    if (
        torch.get_num_threads() != threads
    ):  # numba starts its threads by setting OpenMP's, which torch shares
        torch.set_num_threads(threads)
    gradient = matrix @ rows
    pull, positives_weight = _of_positives(matrix, rows, classes)
    if sweep.distances:
        # Σ_j 2·w_ij·(r_i − r_j)
        gradient = 2 * (matrix.sum(dim=1, keepdim=True) * rows - gradient)
        pull = 2 * (positives_weight[:, None] * rows - pull)
    positives = classes.end - classes.start - 1
    counts = classes.unsorted(sweep.counts(positives, len(rows) - 1 - positives))
    gradient, pull = classes.unsorted(gradient), classes.unsorted(pull)
    return Outcome(
        value=classes.unsorted(value).to(rows.dtype),
        counts=counts,
        active=classes.unsorted(active),
        weight=classes.unsorted(weight).to(rows.dtype),
        forces=Forces(gradient, pull, gradient - pull),
        skipped_anchors=int((counts == 0).sum()),
        effective_share=_share(float(absolute.sum()), float(squared.sum()), len(rows)),
    )


def _of_positives(
    matrix: Float[Tensor, "batch batch"], rows: Float[Tensor, "batch width"], classes: Classes
) -> tuple[Float[Tensor, "batch width"], Float[Tensor, " batch"]]:
    """The positives' part of `matrix` @ `rows` and of its row sums: the blocks on the diagonal."""
    from lossgauge.kernels.rows import positives_product

    product, sums = torch.empty_like(rows), rows.new_empty(len(rows))
    if len(classes.blocks) * 32 <= len(rows):
        for start, end in classes.blocks:
            block = matrix[start:end, start:end]
            torch.mm(block, rows[start:end], out=product[start:end])
            torch.sum(block, dim=1, out=sums[start:end])
    else:
        positives_product(
            matrix.numpy(), rows.numpy(), classes.start.numpy(), classes.end.numpy(),
            product.numpy(), sums.numpy(),
        )  # fmt: skip
    return product, sums


def _share(total: float, squares: float, rows: int) -> float:
    return total**2 / squares / (rows * (rows - 1)) if squares else float("nan")


def _most_threads() -> int:
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
