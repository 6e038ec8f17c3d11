"""Exact nearest neighbours by dot product, one block of queries at a time.

Order is similarity descending, then index ascending, so that equal similarities have one answer. The query
itself is masked by its index: with duplicates it is often not the first hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Neighbors(NamedTuple):
    """The nearest rows of a block of queries."""

    queries: Int[Tensor, " block"]
    columns: Int[Tensor, "block k"]
    """Row numbers of the neighbours, nearest first; never the query's own."""


def neighbor_blocks(
    embeddings: Float[Tensor, "rows width"],
    queries: Int[Tensor, " queries"],
    *,
    k: int,
    block_rows: int,
) -> Iterator[Neighbors]:
    """The `k` nearest rows of each query (a row number), a block at a time.

    Memory is block_rows × rows. Costs one product and one selection of k from each row.
    """
    for block in queries.split(block_rows):
        similarity = embeddings[block] @ embeddings.T
        similarity.scatter_(1, block[:, None], -torch.inf)
        yield Neighbors(block, largest(similarity, k=k))


def largest(values: Float[Tensor, "rows columns"], *, k: int) -> Int[Tensor, "rows {k}"]:
    """Columns of the `k` largest of each row, largest first and equal ones by column."""
    found = values.topk(k, dim=1)
    columns = found.indices.sort(dim=1).values
    order = values.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    columns = columns.gather(1, order)
    # Where the k-th value is there more often than it was taken, topk took any of the equal ones.
    last = found.values[:, -1:]
    tied = (values == last).sum(dim=1) > (found.values == last).sum(dim=1)
    if tied.any():
        redone = values[tied].sort(dim=1, descending=True, stable=True).indices
        columns[tied] = redone[:, :k]
    return columns
