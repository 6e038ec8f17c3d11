"""The interval of a mean difference over new seeds and new queries: two crossed random effects.

A difference of two losses is known for each seed and query: D_sq. With S seeds and Q queries, its mean has the variance
σ²_seed/S + σ²_query/Q + σ²_both/(S·Q). It is estimated by mean squares. The seed part and the query part keep their own quantiles of
Student's t; one quantile for the sum (Satterthwaite) gave intervals that were too wide for few queries (docs/statistics.md).

Queries of one class are alike. If test classes are new (class-disjoint), the unit is the class: sums over its queries, as in a
cluster-robust variance. If the classes are those of training (closed set), they are fixed, and queries are drawn inside them.
The gallery is taken as given.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy import special

from lossgauge.errors import InputError
from lossgauge.stats.intervals import ROUNDING, Components, Interval, student
from lossgauge.stats.seed_variance import Numbers, Variance

Drawn = Literal[
    "queries", "queries within classes", "classes", "queries within clusters", "clusters"
]
"""What a new test side would change: all queries, the queries of each class, or whole classes with their queries.

A cluster is to queries and documents what a class is to labelled samples: queries that right documents connect.
"""

WHOLE: frozenset[Drawn] = frozenset({"classes", "clusters"})
"""Drawn with all their queries."""

NOTHING = Variance(0.0, 0.0)
"""A part that cannot be estimated."""

FEW_UNITS, FEW_DIFFERING = 10, 10
"""Fewer classes were not simulated; with fewer queries that differ, intervals are too wide."""

_THREE_SEEDS = "three seeds, and other losses do not help"
_LEAST_P_LOGARITHM = -300.0
_NORMAL = 1.959963984540054

_OVER: dict[Drawn, str] = {
    "queries": "new queries",
    "queries within classes": "new queries of the same classes",
    "classes": "queries of new classes",
    "queries within clusters": "new queries for the same documents",
    "clusters": "new queries",
}
_UNITS: dict[Drawn, str] = {"classes": "classes", "clusters": "groups of queries"}


def drawn_again(*, of_pairs: bool, unseen: bool) -> Drawn:
    """What a new test side would change: `unseen` says whether a class, or cluster, of the test side is not in training."""
    if of_pairs:
        return "clusters" if unseen else "queries within clusters"
    return "classes" if unseen else "queries within classes"


class Crossed(NamedTuple):
    """A mean difference over seeds and queries, and the parts of its variance. A part without degrees of freedom is 0."""

    mean: float
    seeds: int
    queries: int
    units: int
    """What would be drawn again: queries, or classes."""
    drawn: Drawn
    seed_part: Variance
    """Of the mean, because of seeds and single answers."""
    query_part: Variance
    """Of the mean, because of queries and single answers."""
    both_part: Variance
    """Because of single answers alone: it is in both parts, and counts once."""
    differing: int
    """Queries that the two losses answer differently in at least one seed."""

    @property
    def over(self) -> str:
        """What the interval is over."""
        queries = _OVER[self.drawn] if self.query_part.degrees else "these queries"
        if self.seed_part.degrees:
            return f"new seeds {'and' if self.query_part.degrees else 'on'} {queries}"
        return f"these trained heads on {queries}"


def crossed(
    values: Float[np.ndarray, "seeds queries"],
    *,
    drawn: Drawn = "queries",
    classes: Shaped[np.ndarray, " _"] | None = None,
    seed_variance: Variance | None = None,
) -> Crossed:
    """The mean of `values`, differences by seed and query, with the parts of its variance.

    `classes` is the class of each query; only `drawn="queries"` does not need it. `seed_variance` is the variance between seeds
    of the mean over queries, estimated from all losses (`moderated`); without it, from these seeds alone.
    InputError for NaN, infinities, no seed or no query. Memory: three times `values`.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size:
        raise InputError(
            f"differences must be seeds × queries, one of each at least, got shape {values.shape}"
        )
    if not np.isfinite(values).all():
        seed, query = np.argwhere(~np.isfinite(values))[0].tolist()
        raise InputError(
            f"differences must be finite, got {values[seed, query]} in row {seed} (seed), column {query} (query);"
            " leave that run out"
        )
    if drawn != "queries" and (classes is None or len(classes) != values.shape[1]):
        count = "none" if classes is None else len(classes)
        raise InputError(f"each of {values.shape[1]} queries needs its class, got {count}")
    seeds, queries = values.shape
    units, degrees = _units(values, drawn, classes)
    by_unit = units.mean(axis=0)
    between = seed_variance or Variance(
        values.mean(axis=1).var(ddof=1) if seeds > 1 else 0.0, seeds - 1
    )
    both = ((units - by_unit) ** 2).sum() / (seeds * (seeds - 1)) if seeds > 1 else 0.0
    return Crossed(
        float(values.mean()),
        seeds,
        queries,
        units.shape[1],
        drawn,
        Variance(float(between.variance) / seeds, float(between.degrees)) if seeds > 1 else NOTHING,
        Variance(float((by_unit**2).sum()), degrees) if degrees else NOTHING,
        Variance(float(both), (seeds - 1) * degrees) if degrees and seeds > 1 else NOTHING,
        int((np.ptp(values, axis=0) + np.abs(values[0]) > ROUNDING).sum()),
    )


def crossed_interval(of: Crossed) -> Interval:
    """The 95 % interval of a mean difference, with what it is over and whether it is approximate."""
    if of.differing == 0:
        same = "both answer every query the same" if of.mean == 0 else "no spread"
        return _without(of, same)
    found = _over_both(of)
    if found.missing:
        return found
    return found._replace(
        p_value=_p_value(of), approximate=_why_approximate(of), components=components(of)
    )


def level_interval(of: Crossed) -> Interval:
    """The 95 % interval of a level, such as the mean hit rate of one loss. Whether it is 0 is no question: no p-value."""
    found = _over_both(of)
    if found.missing:
        return found
    # a level of few queries that are not 0 is no comparison of losses, and the other losses do not enter it
    approximate = _why_approximate(of._replace(differing=FEW_DIFFERING))
    if approximate == _THREE_SEEDS:
        approximate = "three seeds, which vary more than the queries"
    return found._replace(p_value=None, approximate=approximate)


def over_new_queries(
    values: Float[np.ndarray, " queries"],
    clusters: Shaped[np.ndarray, " queries"],
    drawn: Drawn = "clusters",
) -> Interval:
    """The mean of one number of each query, or of its change, over new queries; without a seed.

    `clusters` numbers the queries that right documents connect: as in a study of queries and documents.
    """
    if not len(values):
        return Interval(math.nan, None, 0, missing="no query")
    of = crossed(values[None], drawn=drawn, classes=clusters)
    found = level_interval(of)
    same = "all queries give the same" if of.units > 1 else "one group of queries"
    return found._replace(over=_OVER[drawn], missing=found.missing and same)


def _over_both(of: Crossed) -> Interval:
    """The mean over new seeds and new queries, with Student's interval, or with the reason why there is none."""
    if not of.seed_part.degrees and not of.query_part.degrees:
        return _without(of, "one seed and one query or class")
    whole = total(of.seed_part, of.query_part, of.both_part)
    if whole.variance <= (ROUNDING * of.mean) ** 2:
        return _without(of, "no spread")
    found = student(of.mean, float(whole.variance) ** 0.5, float(whole.degrees), of.seeds)
    return found._replace(over=of.over, queries=of.queries)


def _without(of: Crossed, reason: str) -> Interval:
    """The mean without an interval, and why."""
    return Interval(of.mean, None, of.seeds, over=of.over, queries=of.queries, missing=reason)


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


def _p_value(of: Crossed) -> float:
    """The least level at which the interval excludes 0: with many comparisons, levels far below 5 % count."""
    excess = max(of.seed_part.variance - of.both_part.variance, 0.0)
    parts = [(excess, of.seed_part.degrees), (of.query_part.variance, of.query_part.degrees)]
    # with the degrees of freedom of one part for the whole variance, the level is too low or too high
    t = abs(of.mean) / math.sqrt(sum(variance for variance, degrees in parts if degrees))
    ends = [2 * special.stdtr(degrees, -t) for _, degrees in parts if degrees]
    low, high = (
        max(math.log(max(end, 5e-324)), _LEAST_P_LOGARITHM) for end in (min(ends), max(ends))
    )
    while high - low > 1e-9:
        middle = (low + high) / 2
        squares = sum(
            variance * special.stdtrit(degrees, math.exp(middle) / 2) ** 2
            for variance, degrees in parts
            if degrees
        )
        low, high = (middle, high) if squares > of.mean**2 else (low, middle)
    return math.exp(high)


def _why_approximate(of: Crossed) -> str:
    """Where simulated intervals cover less than 93 % or more than 97 % of the time; see docs/statistics.md."""
    if of.seeds == 2:
        return "two seeds"
    seeds, queries = of.seed_part, of.query_part
    if of.seeds == 3 and seeds.degrees < 3 and seeds.variance > queries.variance:
        return _THREE_SEEDS
    if queries.degrees and of.units < FEW_UNITS:
        return f"{of.units} {_UNITS.get(of.drawn, 'queries')}"
    if of.differing < FEW_DIFFERING:
        return f"the losses differ on fewer than {FEW_DIFFERING} queries"
    return ""


def total(seeds: Variance, queries: Variance, both: Variance) -> Variance:
    """Variance of a mean over seeds and queries: both parts less what they share, at least that of queries.

    The degrees of freedom are those of a Student's t with the half width √(t²ₛ·seeds + t²_q·queries), where each part has its
    own quantile (Graybill and Wang 1980). Parts may be arrays of one shape; a part without degrees of freedom is left out.
    """
    excess = np.maximum(seeds.variance - both.variance, 0.0)
    variance = excess + queries.variance
    squares = excess * _squared_t(seeds.degrees) + queries.variance * _squared_t(queries.degrees)
    ratio = np.sqrt(squares / np.maximum(variance, np.finfo(float).tiny))
    least, most = (of(seeds.degrees, queries.degrees) for of in (np.minimum, np.maximum))
    degrees = special.stdtridf(0.975, np.maximum(ratio, _NORMAL + 1e-6))
    return Variance(variance, np.clip(degrees, np.where(least > 0, least, most), most))


def _squared_t(degrees: Numbers) -> Numbers:
    return np.where(
        np.greater(degrees, 0), special.stdtrit(np.maximum(degrees, 1e-3), 0.975) ** 2, 0.0
    )


def _units(
    values: Float[np.ndarray, "seeds queries"], drawn: Drawn, classes: np.ndarray | None
) -> tuple[Float[np.ndarray, "seeds units"], float]:
    """Deviations of the units that are drawn, and their degrees of freedom: 0 for a single unit.

    They are scaled so that the sum of squares of their mean over seeds is the variance of the mean.
    """
    queries = values.shape[1]
    if drawn == "queries":
        scale = queries * max(queries - 1, 1)
        return (values - values.mean(axis=1, keepdims=True)) / np.sqrt(scale), float(queries - 1)
    _, places = np.unique(np.asarray(classes), return_inverse=True)
    if drawn not in WHOLE:
        places = _strata(places)
    sizes = np.bincount(places)
    sums = np.stack([np.bincount(places, weights=row) for row in values])
    count = len(sizes)
    if drawn in WHOLE:
        deviations = (sums - sizes * values.mean(axis=1, keepdims=True)) / queries
        # one large class counts for more than its share: as many classes of equal sizes would give the same information
        equal = (sizes.astype(float) ** 2).sum() ** 2 / (sizes.astype(float) ** 4).sum()
        return deviations * np.sqrt(count / max(count - 1, 1)), float(equal - 1)
    scale = np.sqrt(sizes / np.maximum(sizes - 1, 1))[places] / queries
    return (values - (sums / sizes)[:, places]) * scale, float(queries - count)


def _strata(places: np.ndarray) -> np.ndarray:
    """Classes with one query form one stratum together, because one query has no spread; a last one joins the smallest class."""
    sizes = np.bincount(places)
    single = sizes == 1
    if not single.any() or len(sizes) == 1:
        return places
    if single.sum() > 1:
        target = len(sizes)
    else:
        target = int(np.argmin(np.where(single, sizes.max() + 1, sizes)))
    return np.unique(np.where(single[places], target, places), return_inverse=True)[1]
