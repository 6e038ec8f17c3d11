"""The interval of a difference over new seeds, from lists of values: a slow loop for the tests of what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from lossgauge.stats.seed_variance import agreement, contrast_variance, pool

Values = Sequence[float]
"""Of one loss, by seed."""


class OverSeeds(NamedTuple):
    mean: float
    half_width: float
    p_value: float
    error: float
    degrees: float

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width

    def outside(self, margin: float) -> float:
        """The p-value for a difference outside of the margin; below 0.05 if the interval is inside."""
        of = stats.t(self.degrees)
        below, above = ((side - margin) / self.error for side in (self.mean, -self.mean))
        return min(1.0, 2 * float(max(of.cdf(below), of.cdf(above))))


def over_seeds(
    left: Sequence[Values], right: Sequence[Values], study: Sequence[Values] = ()
) -> OverSeeds:
    """Mean of `left` − mean of `right`; `study` are all losses of the study, which say how much seeds vary."""
    differences = np.mean(left, axis=0) - np.mean(right, axis=0)
    losses = pool(np.array(study)) if len(study) > 2 else None
    typical = 0.0
    if losses is not None:
        typical = min(_typical(np.array(values), losses) for values in (*left, *right))
    squares = 1 / len(left) + 1 / len(right)
    variance, degrees = contrast_variance(differences, squares, typical, losses)
    of = stats.t(float(degrees))
    error = float(variance / len(differences)) ** 0.5
    mean = float(differences.mean())
    return OverSeeds(
        mean, of.ppf(0.975) * error, 2 * of.sf(abs(mean) / error), error, float(degrees)
    )


def _typical(values, losses) -> float:
    for place, row in enumerate(losses.means):
        if np.array_equal(row, values):
            return float(losses.typical[place])
    return agreement(losses, values)
