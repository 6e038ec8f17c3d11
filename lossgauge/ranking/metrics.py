"""Retrieval metrics of labelled embeddings: each sample is a query against all other samples.

Musgrave, Belongie, Lim 2020 (arXiv 2003.08505) for R-precision and MAP@R: R is the number of other samples
of the query's class.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, cast, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.errors import InputError
from lossgauge.ranking.scores import Similarity
from lossgauge.ranking.search import neighbor_blocks


class Retrieval(NamedTuple):
    """Means over queries, each in [0, 1]."""

    recall_at: dict[int, float]
    """k → share of queries with a sample of the same class among the k nearest."""
    r_precision: float
    """Share of samples of the query's class among the R nearest."""
    map_at_r: float
    """Mean over the R nearest of the precision at each hit, 0 at each miss: early hits count more."""
    query_count: int
    skipped_count: int
    """Samples that are the only ones of their class: they have no correct neighbour, so they are not queries."""


def retrieval(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    block_rows: int | None = None,
    similarity: str = "dot",
) -> Retrieval:
    """Metrics of exact search by dot products of the embeddings, or by `cosine`, which normalises them first.

    Similarities are those of float64 for any dtype; equal ones are ranked by index. A k above rows − 1 means all
    other rows. Memory is block_rows × rows, and 12 bytes for each number of the embeddings; the result does not depend
    on block_rows. Raises InputError for an empty or non-finite batch, for fewer than two classes, if every class
    has only one sample, and for the cosine of a row of zeros.
    """
    rows, numbers = as_batch(embeddings, labels)
    recall_at = checked_ranks(recall_at)
    if similarity not in get_args(Similarity):
        raise InputError(
            f"similarity must be one of {', '.join(get_args(Similarity))}, got {similarity!r}"
        )
    if rows.device.type != "cuda":
        rows, numbers = rows.cpu(), numbers.cpu()  # other devices may have no float64
    _, group, sizes = numbers.unique(return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError(
            f"retrieval needs at least two classes, got only label {int(numbers[0])}: every neighbour would be correct"
        )
    # The only sample of a class has no correct neighbour, but other queries can retrieve it.
    wanted = sizes[group] - 1
    if not wanted.any():
        raise InputError(
            f"each of the {len(sizes)} classes has only one sample, so no query has a correct neighbour; "
            "give at least one class two samples"
        )
    # similar class sizes together: a block is ranked only as deep as its largest class needs
    queries = wanted.argsort(stable=True)[int((wanted == 0).sum()) :]
    hits_at = dict.fromkeys(recall_at, 0)
    # stored per query and summed exactly, so that neither blocks nor the order of rows change the last bit
    r_precision: list[float] = []
    map_at_r: list[float] = []
    counts = wanted[queries].clamp(min=max(recall_at))
    for block in neighbor_blocks(
        rows, queries, counts=counts, block_rows=block_rows, similarity=cast(Similarity, similarity)
    ):
        hit = group[block.columns] == group[block.queries][:, None]
        for at in recall_at:
            hits_at[at] += int(hit[:, :at].any(dim=1).sum())
        precision, average = _at_r(hit.cpu(), wanted[block.queries].cpu())
        r_precision += precision.tolist()
        map_at_r += average.tolist()
    count = len(queries)
    return Retrieval(
        recall_at={at: hits / count for at, hits in hits_at.items()},
        r_precision=math.fsum(r_precision) / count,
        map_at_r=math.fsum(map_at_r) / count,
        query_count=count,
        skipped_count=len(rows) - count,
    )


def checked_ranks(recall_at: Any) -> tuple[int, ...]:
    try:
        ranks = tuple(operator.index(rank) for rank in recall_at)
    except TypeError:
        ranks = ()
    if not ranks or min(ranks) < 1:
        raise InputError(
            f"recall_at must be positive whole numbers of neighbours, such as (1, 10), got {recall_at!r}"
        )
    return ranks


def _at_r(
    hit: Bool[Tensor, "block k"], wanted: Int64[Tensor, " block"]
) -> tuple[Float64[np.ndarray, " block"], Float64[np.ndarray, " block"]]:
    """R-precision, and average precision at R, of each query."""
    r = wanted.numpy()
    row, rank = np.nonzero(hit.numpy() & (np.arange(hit.shape[1]) < r[:, None]))
    count = np.bincount(row, minlength=len(r))
    # hits are stored row by row in the order of their rank: the n-th hit of a row is n entries after its first
    nth = np.arange(1, len(row) + 1) - (np.cumsum(count) - count)[row]
    # bincount adds the numbers one by one: the sum does not depend on the width of the block
    return count / r, np.bincount(row, weights=nth / (rank + 1), minlength=len(r)) / r
