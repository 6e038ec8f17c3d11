"""Retrieval metrics of labelled embeddings: each sample a query against all others.

Musgrave, Belongie, Lim 2020 (arXiv 2003.08505) for R-precision and MAP@R: R is the number of other samples
of the query's class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.errors import InputError
from lossgauge.ranking.search import neighbor_blocks

BLOCK_SIMILARITIES = 2**22
"""Similarities held at a time unless `block_rows` says otherwise: 16 MB of float32."""


class Retrieval(NamedTuple):
    """Means over queries, each in [0, 1]."""

    recall_at: dict[int, float]
    """k → share of queries with a sample of their class among the k nearest."""
    r_precision: float
    """Share of their class among the R nearest."""
    map_at_r: float
    """Mean over the R nearest of the precision at each hit, 0 at each miss: rewards hits that come first."""
    query_count: int
    skipped_count: int
    """Samples that are alone in their class: there is nothing to find, so they are no queries."""


def retrieval(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    block_rows: int | None = None,
) -> Retrieval:
    """Metrics of exact search by dot product of the embeddings as given: normalise them for cosines.

    Equal similarities are ranked by index. Half precision is computed in float32. Memory is
    block_rows × rows; the result does not depend on it. Raises InputError for an empty or non-finite
    batch, fewer than two classes, or where every class has one sample.
    """
    rows, numbers = as_batch(embeddings, labels)
    rows = rows.detach().to(torch.promote_types(rows.dtype, torch.float32))
    if not recall_at or min(recall_at) < 1:
        raise InputError(f"recall_at takes positive numbers of neighbours, got {tuple(recall_at)}")
    _, group, sizes = numbers.unique(return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError(
            f"retrieval needs at least two classes, got only label {int(numbers[0])}: every hit would be right"
        )
    # One sample can only be missed by itself; the others are its haystack.
    wanted = sizes[group] - 1
    queries = (wanted > 0).nonzero().flatten()
    if not len(queries):
        raise InputError(
            f"each of the {len(sizes)} classes has one sample, so there is nothing to find; "
            "give at least one class two samples"
        )
    k = min(max(int(wanted.max()), *recall_at), len(rows) - 1)
    places = torch.arange(1, k + 1, device=rows.device)
    hits_at = dict.fromkeys(recall_at, 0)
    # kept per query and added up at the end, so that the block size cannot move the last bit
    r_precision, map_at_r = [], []
    for block in neighbor_blocks(
        rows, queries, k=k, block_rows=block_rows or max(1, BLOCK_SIMILARITIES // len(rows))
    ):
        hit = group[block.columns] == group[block.queries][:, None]
        for at in recall_at:
            hits_at[at] += int(hit[:, :at].any(dim=1).sum())
        relevant = wanted[block.queries]
        hit &= places <= relevant[:, None]
        precision = hit.cumsum(dim=1).double() / places
        r_precision.append(hit.sum(dim=1).double() / relevant)
        map_at_r.append((precision * hit).sum(dim=1) / relevant)
    count = len(queries)
    return Retrieval(
        recall_at={at: hits / count for at, hits in hits_at.items()},
        r_precision=float(torch.cat(r_precision).mean()),
        map_at_r=float(torch.cat(map_at_r).mean()),
        query_count=count,
        skipped_count=len(rows) - count,
    )
