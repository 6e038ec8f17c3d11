"""Statistics over a few seeds: intervals, paired differences, rank correlation, and correction for many tests.

Student 1908 for the interval and the paired t-test; Spearman 1904 for the correlation, whose p-value is exact up
to eight points; Holm 1979 for many p-values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from scipy import special

ROUNDING = 1e-9
"""Equal differences of float64 numbers may differ by this share of them, because of rounding."""

EXACT_POINTS = 8
"""Up to this many points, every order is tried; 8! is 40,320."""


class Components(NamedTuple):
    """Variances of a difference: of one seed, one query and one answer; they give the variance for any number of each."""

    seed: float
    query: float
    """If classes are drawn, for more classes of the same sizes. 0 for a number without queries."""
    both: float
    seed_degrees: float = 1.0
    """Degrees of freedom for each seed after the first; above 1 if other losses inform the variance."""
    query_degrees: float = 1.0
    """Degrees of freedom for each query; below 1 if classes are drawn."""


class Interval(NamedTuple):
    """A mean and its 95 % interval, mean ± half_width."""

    mean: float
    half_width: float | None
    """None if the values have no spread: for a single value or equal values, an interval of 0 would be misleading."""
    size: int
    """Seeds; of a summary over datasets, datasets."""
    p_value: float | None = None
    """Two-sided p-value for a mean of 0: Student's t-test, paired if the values are differences; None without spread."""
    degrees: float | None = None
    """Degrees of freedom of Student's t, where they are not the number of values minus one."""
    over: str = "new seeds"
    """What would be drawn again: "new seeds and new queries", "these trained heads on new queries"."""
    approximate: str = ""
    """Why the true coverage may be outside of 93 to 97 %, in words; empty where simulations say that it is inside."""
    missing: str = ""
    """Why there is no interval, where seeds are not the reason; empty if there is one."""
    queries: int = 0
    """Queries that the mean is over; 0 for a number that has none."""
    components: Components | None = None
    """Where the variance comes from; None with one seed, and where it is not known."""

    @property
    def turned(self) -> Interval:
        """The same of right − left, for a difference left − right."""
        return self._replace(mean=-self.mean)

    @property
    def degrees_of_freedom(self) -> float | None:
        """None without an interval."""
        if self.half_width is None:
            return None
        return self.size - 1 if self.degrees is None else self.degrees

    @property
    def low(self) -> float:
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half_width or 0.0)

    @property
    def excludes_zero(self) -> bool:
        """False without an interval: without a spread, no difference can be shown."""
        return self.half_width is not None and (self.low > 0 or self.high < 0)

    @property
    def standard_error(self) -> float | None:
        """None without an interval."""
        degrees = self.degrees_of_freedom
        if self.half_width is None or degrees is None:
            return None
        return self.half_width / t_quantile(degrees)

    @property
    def why_none(self) -> str:
        """Why there is no interval, in words; empty if there is one."""
        if self.half_width is not None:
            return ""
        if self.missing:
            return self.missing
        return "one seed" if self.size == 1 else "no spread between the seeds"


class Correlation(NamedTuple):
    """Spearman's rank correlation and its two-sided p-value over all orders."""

    value: float
    p_value: float
    size: int


def known(value: object) -> float | None:
    """`value` as a finite float; None for None, NaN, infinities and anything that is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def interval(values: Iterable[object]) -> Interval | None:
    """Mean and 95 % Student-t interval of the known values; None without known values.

    Values that differ only by rounding have no spread, and so no interval: a few seeds that agree (for example on a
    small test side, or in whole epochs) do not show that the next seed would agree too.
    """
    numbers = [number for number in map(known, values) if number is not None]
    if not numbers:
        return None
    least, most = min(numbers), max(numbers)
    if most - least <= ROUNDING * max(abs(least), abs(most)):
        return Interval(numbers[0], None, len(numbers))
    mean = math.fsum(numbers) / len(numbers)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))
    error = spread / math.sqrt(len(numbers))
    return student(mean, error, len(numbers) - 1, len(numbers))


def student(mean: float, error: float, degrees: float, size: int) -> Interval:
    """The interval of a mean with this standard error, which is above 0."""
    p_value = float(special.stdtr(degrees, -abs(mean / error)) * 2)
    return Interval(mean, t_quantile(degrees) * error, size, p_value, degrees)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Spearman's correlation; None for fewer than three points or if one side is constant."""
    if len(x) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    ranks_x, ranks_y = _unit_ranks(x), _unit_ranks(y)
    value = float(ranks_x @ ranks_y)
    if len(x) > EXACT_POINTS:
        from scipy import stats

        return Correlation(value, float(stats.spearmanr(x, y).pvalue), len(x))
    orders = np.array(list(permutations(range(len(y)))))
    by_chance = ranks_y[orders] @ ranks_x
    # 1e-9: equal correlations may differ by rounding, and the observed order must count itself
    return Correlation(value, float(np.mean(np.abs(by_chance) >= abs(value) - 1e-9)), len(x))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, corrected for the number of tests, in the given order; at most 1.

    If all values below 0.05 are accepted, the chance of any false one among them is at most 5 %, for any dependence
    between the tests.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


@lru_cache(maxsize=4096)
def t_quantile(degrees: float, share: float = 0.975) -> float:
    """Quantile of Student's t; the degrees of freedom need not be whole."""
    return float(special.stdtrit(degrees, share))


def _unit_ranks(values: Sequence[float]) -> np.ndarray:
    from scipy import stats  # its import takes 0.6 s: every worker would pay for it

    ranks = stats.rankdata(values) - (len(values) + 1) / 2
    return np.asarray(ranks / np.linalg.norm(ranks))
