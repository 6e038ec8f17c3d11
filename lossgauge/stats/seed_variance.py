"""Variance between seeds, estimated from all losses of a study together (moderated).

Two or three seeds of one pair of losses say little about its variance. All losses together say more: each loss's own
variance is squeezed toward the pooled one, as far as the variances of the losses agree with each other.

Smyth 2004, https://doi.org/10.2202/1544-6115.1027 (`fit_prior` is limma's fitFDist, by moments). Robust form after
Phipson et al. 2016, https://doi.org/10.1214/16-AOAS920: a loss whose variance is too large for the prior keeps its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from lossgauge.errors import InputError
from lossgauge.stats.intervals import ROUNDING, Components, Interval, student

Numbers = np.ndarray | float


class Variance(NamedTuple):
    """An estimated variance and its degrees of freedom: two numbers, or two arrays of one shape."""

    variance: Numbers
    degrees: Numbers


def fit_prior(
    variances: Float[np.ndarray, "... losses"], degrees: float, *, share: float = 1.0
) -> Variance:
    """The prior of variances with `degrees` each: its location, and its degrees of freedom (infinite if they agree).

    By the moments of the logarithms. `share` is the part of the spread of independent logarithms that these have: below
    1 where the variances are correlated. A variance below 1e-5 of the median counts as that; if all are 0, so is the location.
    """
    middle = np.median(variances, axis=-1, keepdims=True)
    floor = np.where(middle > 0, 1e-5 * middle, np.finfo(float).tiny)
    positive = np.maximum(variances, floor)
    logs = np.log(positive) - special.digamma(degrees / 2) + np.log(degrees / 2)
    excess = logs.var(axis=-1, ddof=1) / share - special.polygamma(1, degrees / 2)
    differ = excess > 0
    prior = 2 * _trigamma_inverse(np.where(differ, excess, 1.0))
    location = np.exp(logs.mean(axis=-1) + special.digamma(prior / 2) - np.log(prior / 2))
    pooled = variances.mean(axis=-1)
    return Variance(
        np.where(differ & (pooled > 0), location, pooled), np.where(differ, prior, np.inf)
    )


def squeeze(variances: Numbers, degrees: float, prior: Variance) -> Variance:
    """Each variance, squeezed toward the prior; the degrees of freedom of both together."""
    total = degrees + prior.degrees
    weight = 1 - degrees / total  # 1 for an infinite prior
    return Variance(weight * prior.variance + (1 - weight) * variances, total)


class Pool(NamedTuple):
    """All losses of a study together: what they say about the variance between seeds of one of them."""

    means: Float[np.ndarray, "*studies losses seeds"]
    weights: Float[np.ndarray, "*studies losses"]
    """Of a loss in the mean of all losses; a clear outlier has a small one."""
    prior: Variance
    """Location, and degrees of freedom up to `most`."""
    typical: Float[np.ndarray, "*studies losses"]
    """How well each loss agrees with the others, from 0 (an outlier) to 1."""

    @property
    def most(self) -> float:
        """Own and prior degrees of freedom together are at most (losses − 1) · (seeds − 1)."""
        losses, seeds = self.means.shape[-2:]
        return float((losses - 2) * (seeds - 1))


def pool(means: Float[np.ndarray, "*studies losses seeds"]) -> Pool | None:
    """The losses of a study, from the mean of each in each seed; None below three losses, which say nothing about each other.

    InputError below two seeds, and for a mean that is not finite.
    """
    losses, seeds = means.shape[-2:]
    if seeds < 2:
        raise InputError(f"a variance between seeds needs two seeds at least, got {seeds}")
    if not np.isfinite(means).all():
        raise InputError("means of losses must be finite; leave out a loss or a seed with NaN")
    if losses < 3:
        return None
    most = float((losses - 2) * (seeds - 1))
    typical = _typical(_of_each_loss(means, np.ones(means.shape[:-1])), seeds - 1, most)
    # a clear outlier is left out of the mean of all losses, where it would add to the variance of each
    weights = np.minimum(1.0, 10 * typical)
    of_loss = _of_each_loss(means, weights)
    degrees = fit_prior(of_loss, seeds - 1, share=_share(losses)).degrees
    location = (typical * of_loss).sum(axis=-1) / typical.sum(axis=-1)
    prior = Variance(location, np.minimum(degrees, most))
    return Pool(means, weights / weights.sum(axis=-1, keepdims=True), prior, typical)


def agreement(of: Pool, means: Float[np.ndarray, " seeds"]) -> float:
    """How well a loss that is not in the pool (tuned, varied or untrained) agrees with it, as `typical`."""
    left = means - of.weights @ of.means
    variance = left.var(ddof=1) / (1 + (of.weights**2).sum())
    chance = _chance(variance, len(means) - 1, of.prior, of.most)
    return min(1.0, float(chance) * len(of.weights) / 2)


def contrast_variance(
    values: Float[np.ndarray, "*contrasts seeds"],
    squares: Numbers,
    typical: Numbers,
    of: Pool | None,
) -> Variance:
    """The variance between seeds of a contrast of losses, from its value in each seed.

    `squares` is the sum of its squared weights: 2 for a pair. `typical` is the least of its losses. Without a pool, or if its
    own variance is larger, nothing is squeezed.
    """
    own_degrees = float(values.shape[-1] - 1)
    own = values.var(axis=-1, ddof=1) / squares
    if of is None:
        return Variance(own * squares, np.full(np.shape(own), own_degrees))
    more = (1,) * (np.ndim(own) - np.ndim(of.prior.variance))  # contrasts, after the studies
    location, degrees = (np.reshape(part, (*np.shape(part), *more)) for part in of.prior)
    squeezed = squeeze(own, own_degrees, Variance(location, degrees * typical))
    # up, never down: in simulations, worst pairs are covered two points more often, by intervals a tenth wider
    return Variance(np.maximum(own, squeezed.variance) * squares, squeezed.degrees)


def moderated(
    means: Float[np.ndarray, "*studies losses seeds"],
    contrasts: Float[np.ndarray, "contrasts losses"],
) -> Variance:
    """The variance between seeds of contrasts of losses of one study, or of many: one variance for each contrast.

    A contrast has a weight for each loss, and their sum is 0: 1 and −1 for a pair; 1/2, 1/2 and −1 for a group against one.
    All seeds must have all losses. Raises as `pool`.
    """
    losses = pool(means)
    typical = 0.0
    if losses is not None:
        typical = np.where(contrasts != 0, losses.typical[..., None, :], 1.0).min(axis=-1)
    return contrast_variance(contrasts @ means, (contrasts**2).sum(axis=-1), typical, losses)


def seed_interval(values: Float[np.ndarray, " seeds"], variance: Variance | None) -> Interval:
    """The 95 % interval over new seeds of a difference that has no queries: a moderated t.

    `variance` is that between seeds, of `contrast_variance`; None for a single seed.
    """
    mean, count = float(values.mean()), len(values)
    # values that agree, for example whole epochs, do not show that the next seed would agree too
    if variance is None or np.ptp(values) <= ROUNDING * np.abs(values).max(initial=0.0):
        return Interval(float(values[0]), None, count)
    between, degrees = float(variance.variance), float(variance.degrees)
    return student(mean, (between / count) ** 0.5, degrees, count)._replace(
        approximate="two seeds" if count == 2 else "",
        components=Components(between, 0.0, 0.0, degrees / (count - 1)),
    )


def _of_each_loss(
    means: Float[np.ndarray, "*studies losses seeds"], weights: Float[np.ndarray, "*studies losses"]
) -> Float[np.ndarray, "*studies losses"]:
    """The variance between seeds of each loss, without what a seed adds to all losses: their weighted mean.

    If the losses vary equally, each of these is an estimate of that variance.
    """
    weights = weights / weights.sum(axis=-1, keepdims=True)
    left = means - (weights[..., None] * means).sum(axis=-2, keepdims=True)
    scale = 1 - 2 * weights + (weights**2).sum(axis=-1, keepdims=True)
    of_loss: np.ndarray = left.var(axis=-1, ddof=1) / scale
    return of_loss


def _share(losses: int) -> float:
    """Deviations of two losses from the mean of all have the correlation −1/(losses − 1); their squares, its square."""
    return 1 - 1 / (losses - 1) ** 2


def _typical(
    variances: Float[np.ndarray, "*studies losses"], degrees: int, most: float
) -> Float[np.ndarray, "*studies losses"]:
    """How well each loss agrees with the prior of the others, from 0 (an outlier) to 1.

    It is the chance of a variance as large, in multiples of 2/losses: up to two losses of a study count as its largest.
    """
    losses = variances.shape[-1]
    chance = np.empty_like(variances)
    for loss in range(losses):
        others = fit_prior(np.delete(variances, loss, axis=-1), degrees, share=_share(losses))
        chance[..., loss] = _chance(variances[..., loss], degrees, others, most)
    typical: np.ndarray = np.minimum(1.0, chance * losses / 2)
    return typical


def _chance(variance: Numbers, degrees: float, prior: Variance, most: float) -> Numbers:
    """The chance of a variance as large as this one, for a loss as the others."""
    ratio = variance / np.maximum(prior.variance, np.finfo(float).tiny)
    chance: Numbers = special.fdtrc(degrees, np.clip(prior.degrees, 0.1, most), ratio)
    return chance


def _trigamma_inverse(value: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """x with trigamma(x) = value, for a value above 0, by Newton's method on 1/trigamma, which is nearly linear."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / special.polygamma(2, x)
        x = x + step
        if np.all(np.abs(step) < 1e-10 * x):
            break
    return np.where(value > 1e7, 1 / np.sqrt(value), np.where(value < 1e-6, 1 / value, x))
