"""The numbers of each query, and their means.

Musgrave, Belongie, Lim 2020 (arXiv 2003.08505) for R-precision and MAP@R; Järvelin and Kekäläinen 2002 for nDCG.
R is the number of right rows of a query: gallery rows of its class that are not left out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64


class PerQuery(NamedTuple):
    """One entry for each query with a right row in the gallery, by ascending number of the query."""

    query: Int64[np.ndarray, " queries"]
    """Its number: its row in the embeddings of the queries."""
    label: Int64[np.ndarray, " queries"]
    right_count: Int64[np.ndarray, " queries"]
    """R, at least 1."""
    first_right_rank: Int64[np.ndarray, " queries"]
    """Rank of the nearest right row among all candidates, from 1. At most k: a hit at k."""
    r_precision: Float64[np.ndarray, " queries"]
    """Share of right rows among the R nearest."""
    ap_at_r: Float64[np.ndarray, " queries"]
    """The mean over the R nearest of the precision at each hit, and 0 at each miss."""
    nearest_right: Int64[np.ndarray, " queries"]
    """A gallery row."""
    nearest_right_similarity: Float64[np.ndarray, " queries"]
    nearest_wrong: Int64[np.ndarray, " queries"]
    """A gallery row; −1 if all candidates are right."""
    nearest_wrong_similarity: Float64[np.ndarray, " queries"]
    """NaN if all candidates are right."""
    average_precision: Float64[np.ndarray, " queries"] | None = None
    """The mean over all right rows of the precision at their ranks; None without `full_ranking`."""
    ndcg: Float64[np.ndarray, " queries"] | None = None
    """Gains discounted by log2(rank + 1), over the largest possible value; None without `full_ranking`."""


class PerClass(NamedTuple):
    """Means over the queries of each class, by ascending label, each in [0, 1]."""

    label: Int64[np.ndarray, " classes"]
    query_count: Int64[np.ndarray, " classes"]
    recall_at: dict[int, Float64[np.ndarray, " classes"]]
    r_precision: Float64[np.ndarray, " classes"]
    map_at_r: Float64[np.ndarray, " classes"]
    mrr: Float64[np.ndarray, " classes"]
    mean_average_precision: Float64[np.ndarray, " classes"] | None
    ndcg: Float64[np.ndarray, " classes"] | None


def class_means(of: PerQuery, ranks: tuple[int, ...]) -> PerClass:
    """The means of each class, with R@k for the k in `ranks`."""
    label, group, count = np.unique(of.label, return_inverse=True, return_counts=True)

    def mean(values: np.ndarray) -> Float64[np.ndarray, " classes"]:
        return np.bincount(group, weights=values) / count

    return PerClass(
        label=label,
        query_count=count,
        recall_at={k: mean(of.first_right_rank <= k) for k in ranks},
        r_precision=mean(of.r_precision),
        map_at_r=mean(of.ap_at_r),
        mrr=mean(1 / of.first_right_rank),
        mean_average_precision=None if of.average_precision is None else mean(of.average_precision),
        ndcg=None if of.ndcg is None else mean(of.ndcg),
    )


def exact_mean(values: Float64[np.ndarray, " queries"]) -> float:
    """The mean of a correctly rounded sum: the order of the queries does not change its last bit."""
    return math.fsum(values.tolist()) / len(values)


def precisions(
    hit: Bool[np.ndarray, "block k"],
    depth: Int64[np.ndarray, " block"],
    right_count: Int64[np.ndarray, " block"],
) -> tuple[Float64[np.ndarray, " block"], Float64[np.ndarray, " block"]]:
    """Of each query, over R: the right rows among the first `depth`, and the sum of the precision at each of them."""
    row, rank = np.nonzero(hit & (np.arange(hit.shape[1]) < depth[:, None]))
    count = np.bincount(row, minlength=len(hit))
    # hits are stored row by row in the order of their rank: the n-th hit of a row is n entries after its first
    nth = np.arange(1, len(row) + 1) - (np.cumsum(count) - count)[row]
    # bincount adds the numbers one by one: the sum does not depend on the width of the block
    sums = np.bincount(row, weights=nth / (rank + 1), minlength=len(hit))
    return count / right_count, sums / right_count


def binary_ndcg(
    hit: Bool[np.ndarray, "block k"], right_count: Int64[np.ndarray, " block"]
) -> Float64[np.ndarray, " block"]:
    """nDCG of each query where every right row has the gain 1."""
    row, rank = np.nonzero(hit)
    gain = np.bincount(row, weights=1 / np.log2(rank + 2.0), minlength=len(hit))
    best = np.cumsum(1 / np.log2(np.arange(right_count.max()) + 2.0))
    values: np.ndarray = gain / best[right_count - 1]
    return values


def discounted_gain(gains: Float[np.ndarray, "block k"]) -> Float64[np.ndarray, " block"]:
    """Σ gain / log₂(rank + 1) of each row; 0 without a column."""
    if not gains.shape[1]:
        return np.zeros(len(gains))
    discounts = 1 / np.log2(np.arange(gains.shape[1]) + 2.0)
    # a running sum adds the numbers one by one: it does not depend on the width of the block
    sums: np.ndarray = np.cumsum(gains * discounts, axis=1)[:, -1]
    return sums


def graded_ndcg(gains: Float[np.ndarray, "block k"]) -> Float64[np.ndarray, " block"]:
    """nDCG of each query from the gains of its candidates in their order; NaN if no gain is above 0."""
    best = -np.sort(-gains.astype(np.float64), axis=1)
    value, most = discounted_gain(gains), discounted_gain(best)
    values: np.ndarray = np.divide(value, most, out=np.full(len(gains), np.nan), where=most > 0)
    return values


def checked_gains(relevance: np.ndarray) -> Float64[np.ndarray, "block gallery"]:
    """The gains of some queries in float64. Raises ValueError if one is negative or not finite."""
    gains = np.asarray(relevance, dtype=np.float64)
    if not np.isfinite(gains).all() or (gains < 0).any():
        raise ValueError("it must be finite and not negative")
    return gains
