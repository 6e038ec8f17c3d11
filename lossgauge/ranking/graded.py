"""Retrieval with graded judgements: nDCG, reciprocal rank and Recall of each query, as trec_eval and ir-measures define them.

Järvelin and Kekäläinen 2002 for nDCG, with the grade itself as the gain. A document without a judgement counts as not right.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from lossgauge.ranking.per_query import discounted_gain


def found_grades(
    found: Int64[np.ndarray, "queries k"],
    queries: Int64[np.ndarray, " queries"],
    judged_query: Int64[np.ndarray, " judged"],
    judged_document: Int64[np.ndarray, " judged"],
    grade: Float64[np.ndarray, " judged"],
) -> Float64[np.ndarray, "queries k"]:
    """The grade of each found document; NaN where it is not judged for its query.

    `queries` has the numbers of the queries, `found` those of documents (any below 0 is none). Judgements are sorted by query, then document,
    each pair once. Time grows as queries × k × log(judged).
    """
    most = int(max(found.max(initial=0), judged_document.max(initial=0))) + 1
    keys = judged_query * most + judged_document
    asked = np.where(found < 0, -1, queries[:, None] * most + found)
    place = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
    return np.where(keys[place] == asked, grade[place], np.nan)


def ndcg(
    grades: Float64[np.ndarray, "queries k"], ideal: Float64[np.ndarray, "queries most"], at: int
) -> Float64[np.ndarray, " queries"]:
    """nDCG@`at` in [0, 1]: Σ grade/log₂(rank + 1) over the first `at`, over the same of the ideal order. NaN without a right document.

    `ideal` has all grades of a query in descending order, then zeros.
    """
    best = discounted_gain(ideal[:, :at])
    with np.errstate(invalid="ignore"):
        gain = discounted_gain(np.nan_to_num(grades[:, :at]))
        return np.asarray(gain / np.where(best, best, np.nan))


def ideal_grades(
    query: Int64[np.ndarray, " judged"],
    grade: Float64[np.ndarray, " judged"],
    queries: Int64[np.ndarray, " queries"],
    at: int,
) -> Float64[np.ndarray, "queries {at}"]:
    """The `at` highest grades of each of `queries`, descending, then zeros."""
    order = np.lexsort((-grade, query))
    query, grade = query[order], grade[order]
    start, end = (np.searchsorted(query, queries, side=side) for side in ("left", "right"))
    place = start[:, None] + np.arange(at)
    there = place < end[:, None]
    return np.where(there, grade[np.where(there, place, 0)], 0.0)


def reciprocal_rank(
    grades: Float64[np.ndarray, "queries k"], at: int
) -> Float64[np.ndarray, " queries"]:
    """1/rank of the first right document, in [0, 1]; 0 if none is among the first `at`."""
    right = grades[:, :at] > 0
    first = right.argmax(axis=1) + 1
    return np.where(right.any(axis=1), 1 / first, 0.0)


def recall(
    grades: Float64[np.ndarray, "queries k"], right_count: Int64[np.ndarray, " queries"], at: int
) -> Float64[np.ndarray, " queries"]:
    """Share of a query's right documents that are among the first `at`, in [0, 1]; NaN without one."""
    found = (grades[:, :at] > 0).sum(axis=1)
    return np.asarray(found / np.where(right_count, right_count, np.nan))
