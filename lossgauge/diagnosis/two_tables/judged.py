"""What judgements add: nDCG, reciprocal rank and Recall, thresholds, the queries that fail, and copies that nobody judged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lossgauge.diagnosis.over_pairs import directions_of
from lossgauge.diagnosis.sampling import draw
from lossgauge.diagnosis.source import Source
from lossgauge.diagnosis.two_tables.judgements import Judgements
from lossgauge.diagnosis.two_tables.nearest import Nearest
from lossgauge.diagnosis.two_tables.records import Failure, Judged, PerQuery
from lossgauge.diagnosis.two_tables.side import pair_cosines
from lossgauge.diagnostics.copies import Copies
from lossgauge.diagnostics.error_rates import Pairs
from lossgauge.diagnostics.pair_thresholds import PairThresholds, pair_thresholds
from lossgauge.ranking.graded import found_grades, ideal_grades, ndcg, recall, reciprocal_rank
from lossgauge.ranking.judged import CUT, FOUND_AT
from lossgauge.stats.crossed import over_new_queries

MOST_NEARER = 3
THRESHOLD_QUERIES, THRESHOLD_DOCUMENTS = 1000, 500
"""Queries and documents whose pairs have thresholds: half a million."""


def grades_of(nearest: Nearest, judged: Judgements) -> Float64[np.ndarray, "queries k"]:
    """The grade of each found document; NaN where it is not judged."""
    return found_grades(
        nearest.documents, nearest.rows, judged.query, judged.document, judged.grade
    )


def per_query(
    rows: Int64[np.ndarray, " queries"],
    grades: Float64[np.ndarray, "queries k"],
    judged: Judgements,
) -> PerQuery:
    """The numbers of each of `rows`, which have a right document each."""
    right = judged.right
    start, end = (np.searchsorted(right.query, rows, side=side) for side in ("left", "right"))
    return PerQuery(
        rows,
        judged.clusters(rows),
        ndcg(grades, ideal_grades(right.query, right.grade, rows, CUT), CUT),
        reciprocal_rank(grades, CUT),
        {k: recall(grades, end - start, k) for k in FOUND_AT},
        {k: (grades[:, :k] > 0).any(axis=1).astype(float) for k in FOUND_AT},
    )


def judged_numbers(similarity: str, of: PerQuery) -> Judged:
    """The means over queries."""
    return Judged(
        similarity,
        over_new_queries(of.ndcg_at_10, of.cluster),
        over_new_queries(of.reciprocal_rank_at_10, of.cluster),
        {k: over_new_queries(values, of.cluster) for k, values in of.found_at.items()},
        {k: over_new_queries(values, of.cluster) for k, values in of.hit_at.items()},
        len(of.row),
        len(np.unique(of.cluster)),
    )


class RightPairs(NamedTuple):
    """Queries with their right documents, without rows of zeros; by ascending query, then document."""

    query: Int64[np.ndarray, " right"]
    document: Int64[np.ndarray, " right"]
    cosine: Float64[np.ndarray, " right"]


def right_pairs(
    queries: Source,
    documents: Source,
    known: Int64[np.ndarray, " documents"],
    judged: Judgements,
) -> RightPairs:
    """The right pairs of `judged` whose document is `known`."""
    right = judged.right
    right = right.some(np.isin(right.document, known))
    cosines = pair_cosines(queries, documents, right.query, right.document)
    return RightPairs(right.query, right.document, cosines)


def thresholds_of(
    queries: Source,
    documents: Source,
    known: Int64[np.ndarray, " documents"],
    judged: Judgements,
    right: RightPairs,
    seed: int,
) -> PairThresholds | None:
    """On the right pairs of up to 1,000 queries and their pairs with 500 documents; None if one kind of pair is missing."""
    asked = np.unique(right.query)
    asked = asked[draw(len(asked), THRESHOLD_QUERIES, seed)]
    of_asked = np.isin(right.query, asked)
    genuine = Pairs(*(part[of_asked] for part in right))
    some = known[draw(len(known), THRESHOLD_DOCUMENTS, seed)]
    every = np.broadcast_to(some, (len(asked), len(some)))
    grades = found_grades(every, asked, judged.query, judged.document, judged.grade)
    query, place = np.nonzero(~(grades > 0))
    cosines = (directions_of(queries, asked) @ directions_of(documents, some).T).numpy()
    impostor = Pairs(asked[query], some[place], cosines[query, place])
    if not len(genuine.score) or not len(impostor.score):
        return None
    return pair_thresholds(genuine, impostor, seed=seed)


def failures_of(
    queries: Source,
    documents: Source,
    nearest: Nearest,
    grades: Float64[np.ndarray, "queries k"],
    judged: Judgements,
    right: RightPairs,
) -> list[Failure]:
    """Queries without a right document among the first ten; those whose right document is farthest behind the nearest one first.

    A right document of zeros is shown only where the query has no other.
    """
    every = judged.right
    failed = []
    for place in np.flatnonzero(~(grades[:, :CUT] > 0).any(axis=1)).tolist():
        row, found = nearest.rows[place], nearest.documents[place]
        first, last = (np.searchsorted(right.query, row, side=side) for side in ("left", "right"))
        ranks = np.flatnonzero(grades[place] > 0)
        if first == last:
            document, cosine = every.document[np.searchsorted(every.query, row)], np.nan
        elif len(ranks):
            document, cosine = found[ranks[0]], nearest.similarity[place, ranks[0]]
        else:
            best = first + int(right.cosine[first:last].argmax())
            document, cosine = right.document[best], right.cosine[best]
        failed.append(
            Failure(
                query=queries.id_of(row),
                right=documents.id_of(document),
                similarity=float(cosine),
                rank=int(ranks[0]) + 1 if len(ranks) else None,
                nearer=tuple(documents.id_of(other) for other in found[:MOST_NEARER]),
                nearer_similarity=tuple(nearest.similarity[place, :MOST_NEARER].tolist()),
            )
        )
    return sorted(failed, key=lambda one: _behind(one), reverse=True)


def _behind(of: Failure) -> float:
    """How much nearer the nearest document is than the right one."""
    return np.inf if np.isnan(of.similarity) else of.nearer_similarity[0] - of.similarity


def unjudged_copies(copied: Copies, judged: Judgements) -> Int64[np.ndarray, " queries"]:
    """Queries with a right document that has a copy which is not right for them."""
    right = judged.right
    row, of = copied.row.numpy(), copied.of.numpy()
    first_of = _lookup(right.document, row, of)
    group, size = np.unique(of, return_counts=True)
    pairs, count = np.unique(np.stack([right.query, first_of]), axis=1, return_counts=True)
    there = _lookup(pairs[1], group, size, default=0) + 1
    return np.unique(pairs[0][count < there])


def _lookup(
    asked: Int64[np.ndarray, " asked"],
    keys: Int64[np.ndarray, " keys"],
    values: Int64[np.ndarray, " keys"],
    default: int | None = None,
) -> Int64[np.ndarray, " asked"]:
    """The value of each key, which are ascending; `default`, or the key itself, where there is none."""
    missing = asked if default is None else np.full(len(asked), default)
    if not len(keys):
        return missing
    place = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
    return np.where(keys[place] == asked, values[place], missing)


def equal_documents(
    queries: Source,
    documents: Source,
    nearest: Nearest,
    right: Bool[np.ndarray, "queries k"],
) -> list[tuple[str, str]]:
    """Queries with a document of the same numbers in float32 that is not judged right: the first one of each."""
    place, rank = np.nonzero((nearest.similarity > 1 - 1e-6) & ~right)
    if not len(place):
        return []
    query, document = nearest.rows[place], nearest.documents[place, rank]
    found, last = [], -1
    for start in range(0, len(query), 4096):
        one, other = query[start : start + 4096], document[start : start + 4096]
        same = (queries.rows(one).float() == documents.rows(other).float()).all(dim=1)
        for at in np.flatnonzero(same.numpy()).tolist():
            if one[at] != last:
                last = one[at]
                found.append((queries.id_of(last), documents.id_of(other[at])))
    return found
