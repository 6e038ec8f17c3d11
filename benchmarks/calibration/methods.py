"""Ways to an interval of the difference of two losses, on many simulated studies at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmarks.calibration.studies import HIGHER, Studies
from lossgauge.stats.crossed import total
from lossgauge.stats.seed_variance import Variance, moderated

LOSS_SETS = {2: ((0, 1), (0, 2)), 3: ((0, 1, 2),), 7: (tuple(range(7)),)}
"""Losses of a study; with two, one study of equal losses and one where the second is better."""

BOOTSTRAPS = 400


class Intervals(NamedTuple):
    """Differences of pairs in studies, [studies, pairs], with half widths; NaN without an interval."""

    difference: np.ndarray
    half_width: np.ndarray


def pairs(losses: tuple[int, ...]) -> list[tuple[int, int]]:
    """Places in `losses` of every two losses."""
    return list(combinations(range(len(losses)), 2))


def contrasts(losses: tuple[int, ...]) -> np.ndarray:
    """[pairs, losses]"""
    weights = np.zeros((len(pairs(losses)), len(losses)))
    for row, (left, right) in enumerate(pairs(losses)):
        weights[row, left], weights[row, right] = 1, -1
    return weights


def of_products(products: np.ndarray, losses: tuple[int, ...]) -> np.ndarray:
    """The sum of squares of the difference of two losses, from products: [studies, pairs]."""
    part = products[:, losses, :][:, :, losses]
    weights = contrasts(losses)
    return np.maximum(np.einsum("pl,blk,pk->bp", weights, part, weights), 0.0)


def difference(studies: Studies, losses: tuple[int, ...]) -> np.ndarray:
    return studies.means[:, losses].mean(-1) @ contrasts(losses).T


def student(mean: np.ndarray, variance: Variance) -> Intervals:
    degrees = np.maximum(variance.degrees, 1e-3)
    half = special.stdtrit(degrees, 0.975) * np.sqrt(variance.variance)
    return Intervals(mean, np.where(np.asarray(variance.variance) > 1e-18, half, np.nan))


def own_seeds(studies: Studies, losses: tuple[int, ...]) -> Variance:
    """Of the mean over seeds, from the seeds of each pair alone."""
    seeds = studies.means.shape[-1]
    each = np.einsum("pl,bls->bps", contrasts(losses), studies.means[:, losses])
    variance = each.var(-1, ddof=1) / seeds
    return Variance(variance, np.full(variance.shape, seeds - 1.0))


def moderated_seeds(studies: Studies, losses: tuple[int, ...]) -> Variance:
    found = moderated(studies.means[:, losses], contrasts(losses))
    return Variance(found.variance / studies.means.shape[-1], found.degrees)


def today(studies: Studies, losses: tuple[int, ...], unit: str) -> Intervals:
    """Student's t over seeds."""
    return student(difference(studies, losses), own_seeds(studies, losses))


def moderated_t(studies: Studies, losses: tuple[int, ...], unit: str) -> Intervals:
    """The moderated t over seeds; queries are taken as given."""
    return student(difference(studies, losses), moderated_seeds(studies, losses))


def crossed(studies: Studies, losses: tuple[int, ...], unit: str) -> Intervals:
    """Over seeds and queries; the seeds of each pair alone."""
    return _crossed(studies, losses, unit, own_seeds)


def crossed_moderated(studies: Studies, losses: tuple[int, ...], unit: str) -> Intervals:
    """Over seeds and queries; the seeds of all losses together."""
    return _crossed(studies, losses, unit, moderated_seeds)


def satterthwaite(studies: Studies, losses: tuple[int, ...], unit: str) -> Intervals:
    """As `crossed_moderated`, with Satterthwaite's degrees of freedom for the whole variance."""
    return _crossed(studies, losses, unit, moderated_seeds, _satterthwaite)


def _satterthwaite(seeds: Variance, queries: Variance, both: Variance) -> Variance:
    larger = np.maximum(seeds.variance, queries.variance)
    variance = np.maximum(seeds.variance + queries.variance - both.variance, larger)
    spent = sum(part.variance**2 / part.degrees for part in (seeds, queries, both))
    return Variance(variance, variance**2 / np.maximum(spent, 1e-300))


def queries_only(studies: Studies, losses: tuple[int, ...], unit: str) -> Intervals:
    """With one seed: these heads on new queries."""
    products = studies.products[unit]
    return student(
        difference(studies, losses),
        Variance(of_products(products.queries, losses), np.float64(products.degrees)),
    )


def _crossed(
    studies: Studies,
    losses: tuple[int, ...],
    unit: str,
    seeds: Callable[[Studies, tuple[int, ...]], Variance],
    combined: Callable[[Variance, Variance, Variance], Variance] = total,
) -> Intervals:
    products = studies.products[unit]
    count = studies.means.shape[-1]
    variance = combined(
        seeds(studies, losses),
        Variance(of_products(products.queries, losses), np.float64(products.degrees)),
        Variance(of_products(products.both, losses), np.float64(products.degrees * (count - 1))),
    )
    return student(difference(studies, losses), variance)


METHODS = {
    "t over seeds": today,
    "moderated t": moderated_t,
    "crossed": crossed,
    "crossed, moderated": crossed_moderated,
    "crossed, Satterthwaite": satterthwaite,
}


def bootstrap(
    studies: Studies,
    losses: tuple[int, int],
    queries: int,
    *,
    seeds: bool,
    generator: np.random.Generator,
) -> Intervals:
    """Percentile bootstrap of classes; with `seeds`, of seeds too (pigeonhole). Only of the studies with class sums."""
    left, right = losses
    sums = studies.sums[:, left].astype(np.float32) - studies.sums[:, right]
    count, seed_count, classes = sums.shape
    low, high = np.empty(count), np.empty(count)
    for place, table in enumerate(sums):
        drawn = generator.multinomial(classes, np.full(classes, 1 / classes), BOOTSTRAPS)
        again = np.ones((BOOTSTRAPS, seed_count))
        if seeds:
            again = generator.multinomial(
                seed_count, np.full(seed_count, 1 / seed_count), BOOTSTRAPS
            )
        means = ((again @ table) * drawn).sum(-1) / (seed_count * queries)
        low[place], high[place] = np.quantile(means, [0.025, 0.975])
    half = (high - low) / 2
    return Intervals(((low + high) / 2)[:, None], np.where(half > 0, half, np.nan)[:, None])


def better(losses: tuple[int, ...]) -> np.ndarray:
    """Whether the truth differs, for each pair: [pairs]."""
    return np.array([(losses[a] in HIGHER) != (losses[b] in HIGHER) for a, b in pairs(losses)])
