"""The same queries and documents embedded by another model: what changed, and which queries got worse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int64

from lossgauge.diagnosis.ranked import over_queries
from lossgauge.stats.crossed import over_new_queries
from lossgauge.stats.intervals import Interval

if TYPE_CHECKING:
    from lossgauge.diagnosis.two_tables.records import RetrievalDiagnosis

NEIGHBORS = 10


class QueryChange(NamedTuple):
    """nDCG@10 of one query."""

    query: str
    """Its id, or its row number where the table has no ids."""
    before: float
    after: float


class RetrievalComparison(NamedTuple):
    """From one pair of tables to another with the same rows: after minus before, paired by query."""

    name: str
    after: RetrievalDiagnosis
    ndcg_at_10: Interval | None
    """None without judgements, as all that follows but the new neighbours."""
    mrr_at_10: Interval | None
    found_at: dict[int, Interval]
    got_worse: tuple[QueryChange, ...]
    """Queries whose nDCG@10 fell, those that lost most first."""
    got_better: tuple[QueryChange, ...]
    new_neighbors: Interval
    """Share of the ten nearest documents of a query that are others than before, in [0, 1]."""
    moved: Int64[np.ndarray, " some"]
    """Rows of the queries with new neighbours, those with the most first."""


def compare(before: RetrievalDiagnosis, after: RetrievalDiagnosis) -> RetrievalComparison:
    """What changed between two diagnoses of the same rows, made with the same queries."""
    rows, first, second = np.intersect1d(
        before.nearest.rows, after.nearest.rows, return_indices=True
    )
    old, new = (
        of.nearest.documents[place, :NEIGHBORS] for of, place in ((before, first), (after, second))
    )
    k = min(old.shape[1], new.shape[1])
    fresh = 1 - (new[:, :k, None] == old[:, None, :k]).any(axis=2).mean(axis=1)
    compared = RetrievalComparison(
        name=after.name,
        after=replace(after, against=None),
        ndcg_at_10=None,
        mrr_at_10=None,
        found_at={},
        got_worse=(),
        got_better=(),
        new_neighbors=over_queries(fresh),
        moved=rows[np.argsort(-fresh, kind="stable")][: np.count_nonzero(fresh)],
    )
    if before.per_query is None or after.per_query is None:
        return compared
    one, two = before.per_query, after.per_query
    rows, first, second = np.intersect1d(one.row, two.row, return_indices=True)
    was, now, clusters = one.ndcg_at_10[first], two.ndcg_at_10[second], one.cluster[first]
    order = np.argsort(now - was, kind="stable")
    ids = before.query_ids
    changes = [
        QueryChange(str(rows[n] if ids is None else ids[rows[n]]), float(was[n]), float(now[n]))
        for n in order.tolist()
        if was[n] != now[n]
    ]
    return compared._replace(
        ndcg_at_10=over_new_queries(now - was, clusters),
        mrr_at_10=over_new_queries(
            two.reciprocal_rank_at_10[second] - one.reciprocal_rank_at_10[first], clusters
        ),
        found_at={
            k: over_new_queries(two.found_at[k][second] - one.found_at[k][first], clusters)
            for k in one.found_at
        },
        got_worse=tuple(change for change in changes if change.after < change.before),
        got_better=tuple(change for change in changes[::-1] if change.after > change.before),
    )
