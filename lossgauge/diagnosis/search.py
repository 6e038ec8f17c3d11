"""The nearest rows of queries by cosine: all rows against each other, or a sample of queries from what a pass has kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lossgauge.diagnosis.parts import Candidates, Nearest, Queries
from lossgauge.diagnosis.source import Source
from lossgauge.ranking.query_set import against_each_other
from lossgauge.ranking.scores import norms_and_directions, similarities
from lossgauge.ranking.search import neighbor_blocks

NEIGHBORS = 10


class Search(NamedTuple):
    """Queries with their nearest rows. Rows are numbers in the file; a query is not its own neighbour."""

    rows: Int64[np.ndarray, " queries"]
    groups: Int64[np.ndarray, " queries"]
    neighbors: Int64[np.ndarray, "queries k"]
    """The nearest first; of equal ones the lower number."""
    similarity: Float64[np.ndarray, "queries k"]
    """Cosines."""
    right: Float64[np.ndarray, " queries"]
    """Similarity of the nearest row of the same class; NaN without one."""
    wrong: Float64[np.ndarray, " queries"]
    """Similarity of the nearest row of another class; NaN without one."""
    searched: int
    """Rows that were searched."""
    ap_at_r: Float64[np.ndarray, " queries"] | None = None
    """Each query's part of MAP@R, NaN without another row of its class; None for a sample of queries."""


def search_all(
    directions: Float64[Tensor, "rows width"], rows: Int64[np.ndarray, " rows"], groups: np.ndarray
) -> Search:
    """Every row is a query. `rows` are their numbers in the file. Time grows as rows² × width."""
    k = min(NEIGHBORS, len(directions) - 1)
    found = torch.empty(len(directions), k, dtype=torch.int64)
    of = against_each_other(directions)
    counts = torch.full((len(directions),), k)
    for block in neighbor_blocks(of, torch.arange(len(rows)), counts=counts, similarity="cosine"):
        found[block.queries] = block.columns[:, :k]
    query = torch.arange(len(rows)).repeat_interleave(k)
    scores = torch.cat(
        [
            torch.linalg.vecdot(directions[some], directions[other])
            for some, other in zip(query.split(65536), found.flatten().split(65536), strict=True)
        ]
    )
    nothing = np.full(len(rows), np.nan)
    return Search(
        rows,
        groups,
        rows[found.numpy()],
        scores.reshape(len(rows), k).numpy(),
        nothing,
        nothing,
        len(rows),
    )


def with_queries(search: Search, known: dict[str, Float64[np.ndarray, " queries"]]) -> Search:
    """The search with `right`, `wrong` and `ap_at_r` of its queries."""
    return search._replace(right=known["right"], wrong=known["wrong"], ap_at_r=known["ap_at_r"])


def search_candidates(
    source: Source, queries: Queries, candidates: Candidates, searched: int
) -> Search:
    """The exact order of what was kept: cosines in float64. A search that found fewer rows than k has as many columns."""
    order, similarity = _in_order(source, queries, candidates.any)
    k = min(NEIGHBORS, int((order >= 0).sum(axis=1).min(initial=NEIGHBORS)))
    return Search(
        queries.rows,
        queries.groups,
        order[:, :k],
        similarity[:, :k],
        _in_order(source, queries, candidates.right)[1][:, 0],
        _in_order(source, queries, candidates.wrong)[1][:, 0],
        searched,
    )


def _in_order(
    source: Source, queries: Queries, kept: Nearest
) -> tuple[Int64[np.ndarray, "queries kept"], Float64[np.ndarray, "queries kept"]]:
    """Rows by exact similarity, then by number; −1 and NaN at the end where nothing was found."""
    there = kept.row >= 0
    needed, place = np.unique(kept.row[there], return_inverse=True)
    _, directions = norms_and_directions(source.rows(needed))
    query = np.nonzero(there)[0]
    exact = np.full(kept.row.shape, np.nan)
    exact[there] = similarities(
        torch.from_numpy(queries.directions[query]), directions[torch.from_numpy(place)], "dot"
    ).numpy()
    order = np.lexsort((kept.row, np.where(there, -exact, np.inf)), axis=1)
    return np.take_along_axis(kept.row, order, 1), np.take_along_axis(exact, order, 1)
