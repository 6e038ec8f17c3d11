"""The difference that planned seeds and queries can detect, and how many of them an open comparison would take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from lossgauge.stats.crossed import Crossed, total
from lossgauge.stats.intervals import t_quantile
from lossgauge.stats.seed_variance import Variance

POWER = 0.8
"""Chance that a planned comparison finds a difference, if it is as large as stated."""

MOST_SEEDS, MOST_QUERIES = 1_000, 10_000_000
"""Larger numbers are given as "never": nobody runs them."""


class Components(NamedTuple):
    """Variances of a difference: of one seed, one query and one answer; they give the variance for any number of each."""

    seed: float
    query: float
    """If classes are drawn, for more classes of the same sizes."""
    both: float
    seed_degrees: float = 1.0
    """Degrees of freedom for each seed after the first; above 1 if other losses inform the variance."""
    query_degrees: float = 1.0
    """Degrees of freedom for each query; below 1 if classes are drawn."""


ASSUMED = Components(seed=2 * 0.007**2, query=0.03, both=0.05)
"""For a plan without earlier runs, our choice: R@1 of a loss spreads by 0.7 points between seeds, and two losses
disagree on 8 % of the queries."""


def components(of: Crossed) -> Components | None:
    """The components of a measured difference; None with one seed or without a query part: they cannot be separated."""
    if of.seeds == 1 or not of.query_part.degrees:
        return None
    both = float(of.both_part.variance)
    return Components(
        max(float(of.seed_part.variance) - both, 0.0) * of.seeds,
        max(float(of.query_part.variance) - both, 0.0) * of.queries,
        both * of.seeds * of.queries,
        float(of.seed_part.degrees) / (of.seeds - 1),
        float(of.query_part.degrees) / of.queries,
    )


def detectable_difference(of: Components, seeds: int, queries: int, power: float = POWER) -> float:
    """The true difference that is found with this chance; with one seed, by these heads on new queries."""
    variance = _planned(of, seeds, queries)
    degrees, error = float(variance.degrees), math.sqrt(variance.variance)
    return error * (t_quantile(degrees) + t_quantile(degrees, power))


def seeds_needed(of: Components, mean: float, queries: int, margin: float = 0.0) -> int | None:
    """Seeds, at least two, that decide a comparison if the true difference is `mean`; None above `MOST_SEEDS`.

    It is decided as better or worse, or as equivalent if that takes fewer.
    """
    wanted = _wanted(mean, margin)
    return _least(2, MOST_SEEDS, lambda seeds: detectable_difference(of, seeds, queries) <= wanted)


def queries_needed(of: Components, mean: float, seeds: int, margin: float = 0.0) -> int | None:
    """Queries that decide a comparison with the same number of seeds; None above `MOST_QUERIES`."""
    wanted = _wanted(mean, margin)
    least = max(2, int(2 / of.query_degrees))
    return _least(least, MOST_QUERIES, lambda q: detectable_difference(of, seeds, q) <= wanted)


def _wanted(mean: float, margin: float) -> float:
    return max(abs(mean), margin - abs(mean))


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
