"""Counts, means and scatters of classes, from any number of chunks.

Chan, Golub, LeVeque 1979: each part stores deviations from its own mean, so a large mean causes no cancellation, and
merged parts equal one pass over all rows. All computation is in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch, largest_entry
from lossgauge.diagnostics.scale import LARGEST_ENTRY, LEAST_ENTRY
from lossgauge.errors import InputError

BLOCK_ROWS = 2048
"""Rows that are converted to float64 at a time: few enough to fit in the CPU cache."""


class Moments(NamedTuple):
    """The sufficient statistics of labelled rows: everything that VARIANCE needs."""

    labels: Int[Tensor, " classes"]
    """Ascending."""
    sizes: Int[Tensor, " classes"]
    """Rows of each class."""
    mean: Float64[Tensor, "classes width"]
    scatter: Float64[Tensor, " classes"]
    """Σ over the class of ‖row − class mean‖²."""
    spread: Float64[Tensor, "side width"]
    """Deviations d = row − overall mean: one for each row if there are fewer rows than the width, else Σ d·dᵀ."""


def moments(embeddings: ArrayLike, labels: ArrayLike) -> Moments:
    """Moments of one chunk. Costs one width × width product for each row; reads the rows twice, block by block.

    Raises InputError if the chunk breaks a rule of `as_batch`, or its squares do not fit float64.
    """
    rows, numbers = as_batch(embeddings, labels)
    rows = rows.detach()
    _check_range(rows)
    wide = len(rows) < rows.shape[1]
    classes, group, count = numbers.unique(return_inverse=True, return_counts=True)
    sizes = count.double()[:, None]  # int over int would be a float32

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        parts = zip(rows.split(BLOCK_ROWS), group.split(BLOCK_ROWS), strict=True)
        return ((block.double(), of) for block, of in parts)

    sums = rows.new_zeros(len(classes), rows.shape[1], dtype=torch.float64)
    for block, of in blocks():
        _add_rows(sums, of, block)
    mean, overall = sums / sizes, sums.sum(dim=0) / len(rows)
    scatter = sums.new_zeros(len(classes))
    left = torch.zeros_like(sums)
    spread = rows.double() - overall if wide else sums.new_zeros(rows.shape[1], rows.shape[1])
    for block, of in blocks():
        deviation = block - mean.index_select(0, of)
        _add_rows(left, of, deviation)
        scatter.index_add_(0, of, torch.linalg.vecdot(deviation, deviation))
        if not wide:
            centered = block - overall
            spread.addmm_(centered.T, centered)
    # The mean of a class of equal rows is rounded; the remaining difference must not count as scatter.
    correction = left / sizes
    scatter = (scatter - sizes[:, 0] * correction.square().sum(dim=1)).clamp_(min=0)
    return Moments(classes, count, mean + correction, scatter, spread)


def merge(first: Moments, second: Moments) -> Moments:
    """Moments of both sets of rows together; their classes may differ, but not their width."""
    if first.mean.shape[1] != second.mean.shape[1]:
        raise InputError(
            "moments can be merged only if they have the same width, got widths "
            f"{first.mean.shape[1]} and {second.mean.shape[1]}"
        )
    labels = torch.cat([first.labels, second.labels]).unique()
    a, b = _over_classes(first, labels), _over_classes(second, labels)
    of_a, of_b = a.sizes.double(), b.sizes.double()  # int over int would be a float32
    count = of_a + of_b
    gap = b.mean - a.mean
    # A class that only one side has keeps the mean and the scatter of that side.
    both = (of_a * of_b)[:, None] > 0
    gap = torch.where(both, gap, 0)
    mean = torch.where((of_a > 0)[:, None], a.mean, b.mean) + gap * (of_b / count)[:, None]
    scatter = a.scatter + b.scatter + gap.square().sum(dim=1) * (of_a * of_b / count)
    return Moments(labels, a.sizes + b.sizes, mean, scatter, _merged_spread(first, second))


def merge_all(parts: Iterable[Moments]) -> Moments:
    """Parts merged from left to right: the same order gives the same bits."""
    return reduce(merge, parts)


def overall_mean(of: Moments) -> Float64[Tensor, " width"]:
    """Mean of all rows; every row counts once."""
    return (of.sizes.double() @ of.mean) / of.sizes.sum()


def _merged_spread(first: Moments, second: Moments) -> Float64[Tensor, "side width"]:
    rows, more_rows = float(first.sizes.sum()), float(second.sizes.sum())
    gap, every = overall_mean(second) - overall_mean(first), rows + more_rows
    if every < len(gap):
        return torch.cat(
            [first.spread - gap * (more_rows / every), second.spread + gap * (rows / every)]
        )
    between = torch.outer(gap, gap) * (rows * more_rows / every)
    return _total(first) + _total(second) + between


def _total(of: Moments) -> Float64[Tensor, "width width"]:
    """Σ d·dᵀ."""
    wide = int(of.sizes.sum()) < of.mean.shape[1]
    return of.spread.T @ of.spread if wide else of.spread


def _check_range(rows: Float[Tensor, "rows width"]) -> None:
    largest = largest_entry(rows)
    if largest and not LEAST_ENTRY <= largest <= LARGEST_ENTRY:
        raise InputError(
            "moments hold squares in float64: the largest entry of the embeddings must be between "
            f"{LEAST_ENTRY:g} and {LARGEST_ENTRY:g}, got {largest:.3g}; rescale the embeddings"
        )


def _add_rows(sums: Tensor, group: Tensor, rows: Tensor) -> None:
    # scatter_add_ has a fast path for one index per row; index_add_ adds the rows one by one
    sums.scatter_add_(0, group[:, None].expand_as(rows), rows)


def _over_classes(of: Moments, labels: Tensor) -> Moments:
    """The same moments over a longer list of classes; absent classes count 0."""
    at = torch.searchsorted(labels, of.labels)
    return Moments(
        labels,
        of.sizes.new_zeros(len(labels)).index_copy_(0, at, of.sizes),
        of.mean.new_zeros(len(labels), of.mean.shape[1]).index_copy_(0, at, of.mean),
        of.scatter.new_zeros(len(labels)).index_copy_(0, at, of.scatter),
        of.spread,
    )
