"""Queries, the gallery that they are ranked against, and the gallery rows that are left out for a query."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class Matches(NamedTuple):
    """For each query, the gallery rows that have its key."""

    order: Int64[Tensor, " gallery"]
    """Gallery rows, sorted by their keys: the matches of a query are adjacent."""
    starts: Int64[Tensor, " queries"]
    """Where the matches of a query begin in `order`."""
    counts: Int64[Tensor, " queries"]

    def pairs(
        self, queries: Int64[Tensor, " some"]
    ) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
        """The place in `queries` and the gallery row of each match, by ascending place, then row."""
        count = self.counts[queries]
        place = torch.arange(len(queries), device=count.device).repeat_interleave(count)
        within = torch.arange(len(place), device=count.device) - (count.cumsum(0) - count)[place]
        return place, self.order[self.starts[queries][place] + within]


def matches(
    query_keys: Int64[Tensor, " queries"], gallery_keys: Int64[Tensor, " gallery"]
) -> Matches:
    """Pairs of equal keys. Memory grows as queries + gallery."""
    order = gallery_keys.argsort(stable=True)
    keys = gallery_keys[order]
    start = torch.searchsorted(keys, query_keys)
    return Matches(order, start, torch.searchsorted(keys, query_keys, right=True) - start)


class QuerySet(NamedTuple):
    """What is ranked, and for which queries."""

    rows: Float[Tensor, "rows width"]
    """The gallery, then the queries that are not in it."""
    query_rows: Int64[Tensor, " queries"]
    """The row of each query."""
    gallery_count: int
    left_out: tuple[Matches, ...]
    """Gallery rows that are not ranked for a query; a row may be in several of them."""
    candidate_count: Int64[Tensor, " queries"]
    """How many gallery rows are ranked for each query."""


def against_each_other(rows: Float[Tensor, "rows width"]) -> QuerySet:
    """Each row is a query against all other rows."""
    numbers = torch.arange(len(rows), device=rows.device)
    others = torch.full_like(numbers, len(rows) - 1)
    return QuerySet(rows, numbers, len(rows), (matches(numbers, numbers),), others)
