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
from lossgauge.stats.intervals import ROUNDING, Interval, student

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


def moderated(
    means: Float[np.ndarray, "*studies losses seeds"],
    contrasts: Float[np.ndarray, "contrasts losses"],
) -> Variance:
    """The variance between seeds of contrasts of losses: one variance for each contrast.

    A contrast has a weight for each loss, and their sum is 0: 1 and −1 for a pair; 1/2, 1/2 and −1 for a group against one.
    With two losses, or a contrast whose own variance is larger, nothing is squeezed. All seeds must have all losses.
    InputError below two seeds, and for a mean that is not finite.
    """
    losses, seeds = means.shape[-2:]
    if seeds < 2:
        raise InputError(f"a variance between seeds needs two seeds at least, got {seeds}")
    if not np.isfinite(means).all():
        raise InputError("means of losses must be finite; leave out a loss or a seed with NaN")
    own_degrees = seeds - 1
    scale = (contrasts**2).sum(axis=-1)
    own = np.var(contrasts @ means, axis=-1, ddof=1) / scale
    if losses < 3:
        return Variance(own * scale, np.full(own.shape, float(own_degrees)))
    most = float((losses - 2) * own_degrees)  # own and prior together have (losses − 1)(seeds − 1)
    typical = _typical(_of_each_loss(means, np.ones(means.shape[:-1])), own_degrees, most)
    # a clear outlier is left out of the mean of all losses, where it would add to the variance of each
    of_loss = _of_each_loss(means, np.minimum(1.0, 10 * typical))
    prior = fit_prior(of_loss, own_degrees, share=_share(losses))
    pooled = (typical * of_loss).sum(axis=-1) / typical.sum(axis=-1)
    in_contrast = np.where(contrasts != 0, typical[..., None, :], 1.0).min(axis=-1)
    degrees = np.minimum(prior.degrees, most)[..., None] * in_contrast
    squeezed = squeeze(own, own_degrees, Variance(pooled[..., None], degrees))
    # up, never down: in simulations, worst pairs are covered two points more often, by intervals a tenth wider
    return Variance(np.maximum(own, squeezed.variance) * scale, squeezed.degrees)


def seed_interval(
    means: Float[np.ndarray, "losses seeds"], contrast: Float[np.ndarray, " losses"]
) -> Interval:
    """The 95 % interval over new seeds of a contrast of scalars that have no queries: a moderated t."""
    values = contrast @ means
    spread = np.ptp(values) if values.size else 0.0
    if spread <= ROUNDING * np.abs(values).max(initial=0.0):
        return Interval(float(values.mean()), None, len(values))
    found = moderated(means, contrast[None])
    variance, degrees = np.ravel(found.variance)[0], np.ravel(found.degrees)[0]
    error = float(variance / len(values)) ** 0.5
    interval = student(float(values.mean()), error, float(degrees), len(values))
    return interval._replace(approximate="two seeds" if len(values) == 2 else "")


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
        ratio = variances[..., loss] / np.maximum(others.variance, np.finfo(float).tiny)
        chance[..., loss] = special.fdtrc(degrees, np.clip(others.degrees, 0.1, most), ratio)
    typical: np.ndarray = np.minimum(1.0, chance * losses / 2)
    return typical


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
