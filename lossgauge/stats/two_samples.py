"""The difference of two means from two samples that share no seed, or neither seeds nor queries.

Welch 1947 for two samples of seeds. With queries, the parts of the variance (`crossed`) of each side are estimated
alone and added part by part, with Satterthwaite's degrees of freedom; seeds and queries then keep their own quantiles
of Student's t, as in `crossed`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from lossgauge.stats.crossed import (
    FEW_DIFFERING,
    NOTHING,
    Crossed,
    Drawn,
    crossed,
    crossed_interval,
)
from lossgauge.stats.intervals import ROUNDING, Interval, student
from lossgauge.stats.seed_variance import Variance


def added(first: Variance, second: Variance) -> Variance:
    """The variance of the difference of two independent means, from those of both: Satterthwaite 1946.

    A variance of 0 adds nothing and has no say in the degrees of freedom. Without degrees on a side that part is not
    known, so neither is the sum.
    """
    if not (first.degrees and second.degrees):
        return NOTHING
    parts = [(float(v), float(d)) for v, d in (first, second)]
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return Variance(0.0, sum(d for _, d in parts))
    return Variance(variance, variance**2 / sum(v**2 / d for v, d in parts))


def difference_of_means(
    first: Float[np.ndarray, " seeds"], second: Float[np.ndarray, " other_seeds"]
) -> Interval:
    """`second` − `first`, with its 95 % interval over new seeds: Welch's t-test.

    No interval if a side has one seed, or if neither has a spread.
    """
    mean = float(second.mean() - first.mean())
    size = min(len(first), len(second))
    if size == 1:
        return Interval(mean, None, 1, missing="one seed in a study")
    of_mean = [Variance(side.var(ddof=1) / len(side), len(side) - 1.0) for side in (first, second)]
    whole = added(*of_mean)
    largest = max(np.abs(first).max(), np.abs(second).max())
    if whole.variance <= (ROUNDING * largest) ** 2:
        return Interval(mean, None, size)
    found = student(mean, float(whole.variance) ** 0.5, float(whole.degrees), size)
    return found._replace(approximate="two seeds" if size == 2 else "")


def other_queries(
    first: Float[np.ndarray, "seeds queries"],
    second: Float[np.ndarray, "other_seeds other_queries"],
    *,
    drawn: Drawn = "queries",
    classes: tuple[Shaped[np.ndarray, " _"], Shaped[np.ndarray, " _"]] | None = None,
) -> Interval:
    """Mean of `second` − mean of `first`, answers to other queries with other seeds: nothing is paired.

    `classes` are the classes of the queries of both sides; only `drawn="queries"` does not need them. Over these trained
    heads if a side has one seed. Raises as `crossed`.
    """
    sides = [
        crossed(values, drawn=drawn, classes=of)
        for values, of in zip((first, second), classes or (None, None), strict=True)
    ]
    rare = sum(_rare_answers(values) for values in (first, second))
    both = _added(*sides)._replace(
        query_part=added(*(side.query_part for side in sides)),
        queries=min(side.queries for side in sides),
        units=min(side.units for side in sides),
        differing=rare,
    )
    found = crossed_interval(both)
    if rare < FEW_DIFFERING and found.approximate:
        found = found._replace(
            approximate=f"fewer than {FEW_DIFFERING} queries get another answer than most"
        )
    return found._replace(components=None)


def other_seeds(
    first: Float[np.ndarray, "seeds queries"],
    second: Float[np.ndarray, "other_seeds queries"],
    *,
    drawn: Drawn = "queries",
    classes: Shaped[np.ndarray, " _"] | None = None,
) -> Interval:
    """Mean of `second` − mean of `first`, answers to the same queries with other seeds: paired by query alone.

    Otherwise as `other_queries`.
    """
    sides = [crossed(values, drawn=drawn, classes=classes) for values in (first, second)]
    means = second.mean(axis=0) - first.mean(axis=0)
    paired = crossed(means[None], drawn=drawn, classes=classes)
    both = _added(*sides)._replace(query_part=paired.query_part, differing=paired.differing)
    return crossed_interval(both)._replace(components=None)


def _added(first: Crossed, second: Crossed) -> Crossed:
    """The second less the first, with the parts of its variance because of seeds, and because of single answers."""
    seeds = added(first.seed_part, second.seed_part)
    single = added(first.both_part, second.both_part)
    return first._replace(
        mean=second.mean - first.mean,
        seeds=min(first.seeds, second.seeds),
        seed_part=seeds,
        both_part=single if seeds.degrees else NOTHING,
    )


def _rare_answers(values: Float[np.ndarray, "seeds queries"]) -> int:
    """Queries with another answer than most, in at least one seed: a normal mean needs some of them."""
    return int((np.abs(values - np.median(values)) > ROUNDING).any(axis=0).sum())
