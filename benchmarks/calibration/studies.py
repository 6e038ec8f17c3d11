"""Simulated studies: losses × seeds × queries, fully crossed, with hits and misses from a logistic model.

A head of loss l and seed s answers query q of class g right with probability

    logistic(level_l + seed_s + own_ls + difficulty_gq + taste_lgq)

`seed_s` is common to all losses; the spread of `own_ls` differs between losses. Difficulty (standard deviation 2) and
taste (1) have a class part, whose share of the variance is the intra-class correlation. Only what intervals need is
kept: the table of means, and sums over queries or classes of products of two losses (Gram matrices).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.calibration.hits import draw

LOSSES = 7
SEEDS = (1, 2, 3, 5, 10)
CLASSES = {50: 10, 200: 20, 2_000: 100, 10_000: 500}
"""Queries → test classes, of equal sizes."""
DIFFICULTY, TASTE, COMMON_SEED, OWN_SEED = 2.0, 1.0, 0.1, 0.08
"""Standard deviations in logits; 0.08 is about one point of R@1 at 70 %."""
HIGHER = (2, 4, 6)
"""Losses that are better by `gain`; all others are equal."""
LEVELS = {"70 %": (0.70, 0.03), "98.5 %": (0.985, 0.005)}
"""Mean hit rate of the equal losses, and the gain of the better ones."""
SPREADS = {
    "equal": np.ones(LOSSES),
    "unequal": np.array([0.55, 1.65, 0.95, 0.7, 1.35, 0.8, 1.15]),
    "one at 5x": np.array([5.0, 1, 1, 1, 1, 1, 1]),
}
"""Spread between seeds of each loss, as a multiple of `OWN_SEED`."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
GRID = np.linspace(-25, 25, 4_001)


class Condition(NamedTuple):
    queries: int
    correlation: float
    spread: str
    level: str

    @property
    def name(self) -> str:
        level = self.level.split()[0].replace(".", "")
        spread = self.spread.replace(" ", "-")
        return f"{self.queries}-icc{self.correlation:.1f}-{spread}-{level}"


class Products(NamedTuple):
    """Products of losses, summed over units of queries, in units of the variance of a mean. [studies, losses, losses]"""

    queries: np.ndarray
    """Of the means over seeds: the query part of the variance of a difference comes from these."""
    both: np.ndarray
    """Of what is left of each seed: the part of seeds and queries together."""
    degrees: int


class Studies(NamedTuple):
    """Simulated studies with one number of seeds, and the truth."""

    means: np.ndarray
    """[studies, losses, seeds]"""
    products: dict[str, Products]
    """By what is drawn: `classes`, `queries` (their classes are ignored), `within` (queries inside fixed classes)."""
    truth: dict[str, np.ndarray]
    """[studies, losses] for new seeds and `classes`, `within` fixed classes; of these `heads` on new queries, and `heads within`."""
    sums: np.ndarray
    """Sums of each class of the first studies: [studies, losses, seeds, classes], for bootstraps."""


def logistic_mean(center: np.ndarray, variance: float) -> np.ndarray:
    """Mean of logistic(center + N(0, variance)), by quadrature."""
    return np.interp(center, GRID, _on_grid(float(variance)))


@lru_cache(maxsize=64)
def _on_grid(variance: float) -> np.ndarray:
    at = GRID[:, None] + np.sqrt(variance) * NODES
    return (1 / (1 + np.exp(-at))) @ WEIGHTS


def levels(condition: Condition) -> np.ndarray:
    """Level of each loss, so that its mean hit rate over seeds and queries is exactly the wanted one. [losses]"""
    base, gain = LEVELS[condition.level]
    wanted = np.where(np.isin(np.arange(LOSSES), HIGHER), base + gain, base)
    variances = DIFFICULTY**2 + TASTE**2 + _seed_variance(condition)
    found = []
    for rate, variance in zip(wanted, variances, strict=True):
        low, high = -20.0, 20.0
        at = np.sqrt(variance) * NODES
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if (1 / (1 + np.exp(-middle - at))) @ WEIGHTS < rate
                else (low, middle)
            )
        found.append(low)
    return np.array(found)


def simulate(condition: Condition, studies: int, *, seed: int, kept: int = 0) -> dict[int, Studies]:
    """`studies` simulated studies for each number of seeds: the first seeds of the same ones. `kept`: with class sums."""
    block = max(1, min(studies, 200_000 // condition.queries))
    starts = [*range(0, studies, block), studies]
    generator = np.random.Generator(np.random.SFC64([seed, *map(ord, condition.name)]))
    blocks = [
        _block(condition, stop - start, generator, max(kept - start, 0))
        for start, stop in pairwise(starts)
    ]
    return {count: _joined([b[count] for b in blocks], kept) for count in SEEDS}


def _seed_variance(condition: Condition) -> np.ndarray:
    return COMMON_SEED**2 + (OWN_SEED * SPREADS[condition.spread]) ** 2


def _block(
    condition: Condition, studies: int, generator: np.random.Generator, kept: int
) -> dict[int, Studies]:
    classes = CLASSES[condition.queries]
    size = condition.queries // classes
    share, rest = np.sqrt(condition.correlation), np.sqrt(1 - condition.correlation)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32)

    alpha = levels(condition)
    of_class = share * (
        DIFFICULTY * normal(studies, 1, classes, 1) + TASTE * normal(studies, LOSSES, classes, 1)
    )
    of_class = of_class + alpha[:, None, None].astype(np.float32)
    logits = of_class + rest * (
        DIFFICULTY * normal(studies, 1, classes, size)
        + TASTE * normal(studies, LOSSES, classes, size)
    )
    seeds = COMMON_SEED * normal(studies, 1, max(SEEDS)) + OWN_SEED * SPREADS[condition.spread][
        :, None
    ] * normal(studies, LOSSES, max(SEEDS))
    sums, of_each, of_first = draw(
        np.exp(logits, dtype=np.float32),
        np.exp(seeds).astype(np.float32),
        np.array(SEEDS),
        generator.integers(2**64, dtype=np.uint64),
    )
    queries = condition.queries
    means = sums.sum(-1) / queries
    inside = (DIFFICULTY**2 + TASTE**2) * (1 - condition.correlation)
    fixed = np.stack(
        [
            logistic_mean(of_class[:, loss, :, 0], inside + variance).mean(-1)
            for loss, variance in enumerate(_seed_variance(condition))
        ],
        axis=1,
    )
    heads = logistic_mean(alpha + seeds[:, :, 0], DIFFICULTY**2 + TASTE**2)
    both = logistic_mean(of_class[:, :, :, 0] + seeds[:, :, :1], inside).mean(-1)
    base, gain = LEVELS[condition.level]
    overall = np.where(np.isin(np.arange(LOSSES), HIGHER), base + gain, base)
    truth = {
        "classes": np.broadcast_to(overall, fixed.shape),
        "within": fixed,
        "heads": heads,
        "heads within": both,
    }
    found = {}
    classes_of_each = [_gram(of.astype(float)) for of in sums]
    for place, count in enumerate(SEEDS):
        of = means[:count]
        grand = of.mean(0)
        by_query = of_first[place] / (count * queries) ** 2
        by_class = _gram(sums[:count].sum(0).astype(float)) / (count * queries) ** 2
        left_query = of_each[:count].sum(0) / queries**2 - count * by_query
        left_class = sum(classes_of_each[:count]) / queries**2 - count * by_class
        # a mean over all units is taken off each unit: squares of means, over the number of units
        squares = _outer(grand)
        left = sum(_outer(m) for m in of) - count * squares
        within = size / (size - 1)
        pairs = max(count * (count - 1), 1)
        found[count] = Studies(
            np.moveaxis(of, 0, -1),
            {
                "classes": Products(
                    (by_class - squares / classes) * classes / (classes - 1),
                    (left_class - left / classes) * classes / (classes - 1) / pairs,
                    classes - 1,
                ),
                "queries": Products(
                    (by_query - squares / queries) * queries / (queries - 1),
                    (left_query - left / queries) * queries / (queries - 1) / pairs,
                    queries - 1,
                ),
                "within": Products(
                    (by_query - by_class / size) * within,
                    (left_query - left_class / size) * within / pairs,
                    queries - classes,
                ),
            },
            truth,
            np.moveaxis(sums[:count, :kept], 0, 2).astype(np.int16),
        )
    return found


def _gram(values: np.ndarray) -> np.ndarray:
    """Products of losses, summed over units."""
    return values @ values.swapaxes(-1, -2)


def _outer(means: np.ndarray) -> np.ndarray:
    return means[:, :, None] * means[:, None, :]


def _joined(blocks: list[Studies], kept: int) -> Studies:
    def join(arrays: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)

    return Studies(
        join([b.means for b in blocks]),
        {
            unit: Products(
                join([b.products[unit].queries for b in blocks]),
                join([b.products[unit].both for b in blocks]),
                blocks[0].products[unit].degrees,
            )
            for unit in blocks[0].products
        },
        {of: join([b.truth[of] for b in blocks]) for of in blocks[0].truth},
        join([b.sums for b in blocks])[:kept],
    )
