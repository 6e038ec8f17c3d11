"""Counts, means and scatters of classes, from any number of chunks.

Chan, Golub, LeVeque 1979: parts hold deviations from their own mean, so that nothing cancels when the
mean is large, and merging parts gives what one pass over all rows would. In float64 throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.diagnostics.scale import LARGEST_ENTRY, LEAST_ENTRY, largest_entry
from lossgauge.errors import InputError

BLOCK_ROWS = 2048
"""Rows in float64 at a time: few enough to stay in a cache."""


class Moments(NamedTuple):
    """What a set of labelled rows leaves behind: all that VARIANCE needs of it."""

    labels: Int[Tensor, " classes"]
    """Ascending."""
    sizes: Int[Tensor, " classes"]
    """Rows of each class."""
    mean: Float64[Tensor, "classes width"]
    scatter: Float64[Tensor, " classes"]
    """Σ over the class of ‖row − class mean‖²."""
    spread: Float64[Tensor, "side width"]
    """Deviations d = row − overall mean: one a row where there are fewer rows than the width, else Σ d·dᵀ over them."""


def moments(embeddings: ArrayLike, labels: ArrayLike) -> Moments:
    """Moments of one chunk. Costs one width × width product a row; reads the rows twice, a block at a time.

    Raises InputError where the chunk breaks a rule of `as_batch`, or its squares do not fit float64.
    """
    rows, numbers = as_batch(embeddings, labels)
    rows = rows.detach()
    _check_range(rows)
    wide = len(rows) < rows.shape[1]
    found, group, count = numbers.unique(return_inverse=True, return_counts=True)
    sizes = count.double()[:, None]  # int over int would be a float32

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        parts = zip(rows.split(BLOCK_ROWS), group.split(BLOCK_ROWS), strict=True)
        return ((block.double(), of) for block, of in parts)

    sums = rows.new_zeros(len(found), rows.shape[1], dtype=torch.float64)
    for block, of in blocks():
        _add_rows(sums, of, block)
    mean, overall = sums / sizes, sums.sum(dim=0) / len(rows)
    scatter = sums.new_zeros(len(found))
    left = torch.zeros_like(sums)
    spread = rows.double() - overall if wide else sums.new_zeros(rows.shape[1], rows.shape[1])
    for block, of in blocks():
        deviation = block - mean.index_select(0, of)
        _add_rows(left, of, deviation)
        scatter.index_add_(0, of, torch.linalg.vecdot(deviation, deviation))
        if not wide:
            centered = block - overall
            spread.addmm_(centered.T, centered)
    # The mean of a class of equal rows is rounded; what is left of it is no scatter.
    correction = left / sizes
    scatter = (scatter - sizes[:, 0] * correction.square().sum(dim=1)).clamp_(min=0)
    return Moments(found, count, mean + correction, scatter, spread)


def merge(first: Moments, second: Moments) -> Moments:
    """Moments of both sets of rows together; their classes may differ, their width may not."""
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
    # A class that one side lacks has no gap: its mean and scatter are the other side's.
    both = (of_a * of_b)[:, None] > 0
    gap = torch.where(both, gap, 0)
    mean = torch.where((of_a > 0)[:, None], a.mean, b.mean) + gap * (of_b / count)[:, None]
    scatter = a.scatter + b.scatter + gap.square().sum(dim=1) * (of_a * of_b / count)
    return Moments(labels, a.sizes + b.sizes, mean, scatter, _merged_spread(first, second))


def merge_all(parts: Iterable[Moments]) -> Moments:
    """Parts merged from left to right: the same order gives the same bits."""
    return reduce(merge, parts)


def overall_mean(of: Moments) -> Float64[Tensor, " width"]:
    """Mean of all rows, every row counting once."""
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
    # scatter_add_ knows an index that is one number a row; index_add_ takes the rows one by one
    sums.scatter_add_(0, group[:, None].expand_as(rows), rows)


def _over_classes(of: Moments, labels: Tensor) -> Moments:
    """The same moments over a longer list of classes; absent ones count 0."""
    at = torch.searchsorted(labels, of.labels)
    return Moments(
        labels,
        of.sizes.new_zeros(len(labels)).index_copy_(0, at, of.sizes),
        of.mean.new_zeros(len(labels), of.mean.shape[1]).index_copy_(0, at, of.mean),
        of.scatter.new_zeros(len(labels)).index_copy_(0, at, of.scatter),
        of.spread,
    )
