"""The difference that planned seeds and queries can detect, and how many of them an open comparison would take."""

from __future__ import annotations

import math
from collections.abc import Callable

from lossgauge.stats.crossed import total
from lossgauge.stats.decisions import LEVEL
from lossgauge.stats.intervals import Components, Interval, t_quantile
from lossgauge.stats.seed_variance import Variance

POWER = 0.8
"""Chance that a planned comparison finds a difference, if it is as large as stated."""

MOST_SEEDS, MOST_QUERIES = 1_000, 10_000_000
"""Larger numbers are given as "never": nobody runs them."""


ASSUMED = Components(seed=2 * 0.007**2, query=0.03, both=0.05)
"""For a plan of two losses without earlier runs, our choice: R@1 of a loss spreads by 0.7 points between seeds, and two
losses disagree on 8 % of the queries."""


ASSUMED_NDCG = Components(seed=2 * 0.003**2, query=0.006, both=0.01)
"""The same for nDCG@10 of queries and documents, our choice: it spreads by 0.3 points between seeds, and the difference of two
losses by 13 points between queries. The nine losses of `wordnet` gave 0.1 and 11 points, 100 queries of a small set 0.5 and 13."""


def assumed(losses: int, of: Components = ASSUMED) -> Components:
    """`of` for a plan with this many losses: from three on, they inform each other's variance between seeds.

    Two degrees of freedom for each seed after the first are our choice: seven losses gave 1.2 to 2.2 on two real sets, and
    would give 6 if they all varied alike.
    """
    return of._replace(seed_degrees=2.0 if losses > 2 else 1.0)


def detectable_difference(
    of: Components, seeds: int, queries: int, *, family: int = 1, power: float = POWER
) -> float:
    """The true difference that is found with this chance, as one of a corrected family; with one seed, by these heads on
    new queries.
    """
    variance = _planned(of, seeds, queries)
    degrees, error = float(variance.degrees), math.sqrt(variance.variance)
    return error * (
        t_quantile(degrees, 1 - LEVEL / max(family, 1) / 2) + t_quantile(degrees, power)
    )


def seeds_needed(of: Interval, margin: float | None, *, family: int = 1) -> int | None:
    """Seeds, more than there are, that decide an open comparison with a chance of 80 % if the true difference is its mean.

    It is decided as better or worse, or as equivalent if that takes fewer, after a correction for `family` comparisons.
    None where the variance is not known, and above `MOST_SEEDS`.
    """
    parts = of.components
    if parts is None:
        return None
    wanted = _wanted(of.mean, margin)
    return _least(
        of.size + 1,
        MOST_SEEDS,
        lambda seeds: detectable_difference(parts, seeds, of.queries or 1, family=family) <= wanted,
    )


def queries_needed(of: Interval, margin: float | None, *, family: int = 1) -> int | None:
    """The same with more queries instead of more seeds; None too if the quantity has no queries."""
    parts = of.components
    if parts is None or not of.queries:
        return None
    wanted = _wanted(of.mean, margin)
    return _least(
        of.queries + 1,
        MOST_QUERIES,
        lambda queries: detectable_difference(parts, of.size, queries, family=family) <= wanted,
    )


def _wanted(mean: float, margin: float | None) -> float:
    return max(abs(mean), (margin or 0.0) - abs(mean))


def _planned(of: Components, seeds: int, queries: int) -> Variance:
    both = of.both / (seeds * queries)
    query_degrees = max(of.query_degrees * queries, 1.0)
    query_part = Variance(of.query / queries + both, query_degrees)
    if seeds == 1:
        return query_part
    seed_part = Variance(of.seed / seeds + both, of.seed_degrees * (seeds - 1))
    return total(seed_part, query_part, Variance(both, (seeds - 1) * query_degrees))


def _least(low: int, high: int, enough: Callable[[int], bool]) -> int | None:
    """The least whole number that is enough, by halving; more is never worse."""
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
