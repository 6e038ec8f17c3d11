"""Error rates over scored pairs: FAR and TPR at each score, the EER, and what resampled weights change in them.

A *genuine* pair belongs together, an *impostor* pair does not. FAR is the share of impostor pairs at or above a
threshold, TPR the share of genuine pairs there; at the EER, FAR = 1 − TPR. ISO/IEC 19795-1 for the names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lossgauge.stats.intervals import Interval, t_quantile

FARS = (1e-2, 1e-3)
RESAMPLES = 100
"""Enough to know a standard error to 7 %."""
CURVE_SCORES = 2000
"""Scores at which the rates of a resample are computed, of each kind of pair: fewer make no visible difference."""


class OperatingPoint(NamedTuple):
    """A threshold, and the share of genuine pairs that reach it."""

    far: float
    """The largest share of impostor pairs that may reach it."""
    threshold: float
    """Infinite if even the highest score of an impostor pair is too frequent."""
    tpr: Interval


class Curve(NamedTuple):
    """Rates at each distinct score, from the highest down."""

    score: Float64[np.ndarray, " scores"]
    tpr: Float64[np.ndarray, " scores"]
    far: Float64[np.ndarray, " scores"]


class Pairs(NamedTuple):
    """Pairs of two rows, and how similar they are."""

    first: Int64[np.ndarray, " pairs"]
    """The number of a row."""
    second: Int64[np.ndarray, " pairs"]
    score: Float64[np.ndarray, " pairs"]

    def some(self, which: np.ndarray | slice) -> Pairs:
        return Pairs(*(part[which] for part in self))


class Rates(NamedTuple):
    """Genuine and impostor pairs, and their rates."""

    genuine: Pairs
    impostor: Pairs
    whole: Curve
    best: int
    """The score with the highest TPR − FAR, as its place in the curve."""


def rates(pairs: Pairs, genuine: Bool[np.ndarray, " pairs"]) -> Rates:
    """The rates of pairs in any order, some of which are genuine: at least one, and not all."""
    order = np.argsort(-pairs.score, kind="stable")
    pairs, genuine = pairs.some(order), genuine[order]
    ends = np.flatnonzero(np.append(pairs.score[1:] != pairs.score[:-1], True))
    whole = _curve(pairs.score[ends], np.cumsum(genuine)[ends], np.cumsum(~genuine)[ends])
    best = int(np.argmax(whole.tpr - whole.far))
    return Rates(pairs.some(genuine), pairs.some(~genuine), whole, best)


Weights = tuple[Float64[np.ndarray, " genuine"], Float64[np.ndarray, " impostor"]]
"""How often a resample has each pair."""


def drawn(
    of: Rates, weights: Iterable[Weights], fars: Sequence[float]
) -> Float64[np.ndarray, "resamples numbers"]:
    """`numbers` of each resample."""
    score = _some_scores(of)
    best = int(np.flatnonzero(score == of.whole.score[of.best])[0])
    places = [np.searchsorted(-score, -pairs.score) for pairs in (of.genuine, of.impostor)]
    found = []
    for weight in weights:
        sums = (
            np.cumsum(np.bincount(place, some, len(score)))
            for place, some in zip(places, weight, strict=True)
        )
        again = _curve(score, *sums)
        if not (math.isnan(again.tpr[-1]) or math.isnan(again.far[-1])):
            found.append(numbers(again, fars, best))
    return np.array(found if len(found) > 1 else [numbers(of.whole, fars, of.best)] * 2)


class ErrorRates(NamedTuple):
    """What all thresholds have in common, with 95 % intervals from resamples."""

    eer: Interval
    eer_threshold: float
    at_far: tuple[OperatingPoint, ...]
    best_threshold: float
    best_accuracy: Interval
    genuine_count: int
    impostor_count: int


def rates_with_intervals(
    of: Rates,
    weights: Iterable[Weights],
    fars: Sequence[float],
    *,
    degrees: int,
    over: str,
    impostors: str,
) -> ErrorRates:
    """The rates at the thresholds. `over` says in words what was drawn again, `impostors` which pairs are impostor pairs."""
    spread = drawn(of, weights, fars).std(axis=0, ddof=1).tolist()
    error, accuracy, *tpr = (
        resampled_interval(value, deviation, degrees, over)
        for value, deviation in zip(numbers(of.whole, fars, of.best), spread, strict=True)
    )
    return ErrorRates(
        eer=error,
        eer_threshold=eer(of.whole)[1],
        at_far=_operating_points(of, fars, tpr, impostors),
        best_threshold=float(of.whole.score[of.best]),
        best_accuracy=accuracy,
        genuine_count=len(of.genuine.score),
        impostor_count=len(of.impostor.score),
    )


def _operating_points(
    of: Rates, fars: Sequence[float], tpr: Sequence[Interval], impostors: str
) -> tuple[OperatingPoint, ...]:
    """A threshold for each FAR; `impostors` says in words which pairs are impostor pairs."""
    points = []
    for far, of_far in zip(fars, tpr, strict=True):
        threshold = at_far(of.whole, far)[1]
        known = of_far if math.isfinite(threshold) else _unknown(of_far, far, of, impostors)
        points.append(OperatingPoint(far, threshold, known))
    return tuple(points)


def _curve(score: np.ndarray, genuine: np.ndarray, impostor: np.ndarray) -> Curve:
    """The rates from the weights of the pairs at a score or above; NaN where one kind has no weight."""
    with np.errstate(invalid="ignore"):
        return Curve(score, genuine / genuine[-1], impostor / impostor[-1])


def _some_scores(of: Rates) -> Float64[np.ndarray, " scores"]:
    """Descending scores, close to each other where FAR is small; the best one and the lowest are among them."""
    some = [of.whole.score[[of.best, -1]]]
    for pairs in (of.genuine, of.impostor):
        ranks = np.geomspace(1, len(pairs.score), CURVE_SCORES).astype(np.int64) - 1
        even = np.linspace(0, len(pairs.score) - 1, CURVE_SCORES).astype(np.int64)
        some += [pairs.score[ranks], pairs.score[even]]
    return np.unique(np.concatenate(some))[::-1]


def numbers(of: Curve, fars: Sequence[float], best: int) -> list[float]:
    """EER, balanced accuracy at the `best` score, and the TPR at each FAR."""
    accuracy = (of.tpr[best] + 1 - of.far[best]) / 2
    return [eer(of)[0], float(accuracy), *(at_far(of, far)[0] for far in fars)]


def eer(of: Curve) -> tuple[float, float]:
    """The error where FAR and 1 − TPR cross, on the line between the two scores around the crossing; and the threshold there."""
    gap = of.far - (1 - of.tpr)  # ascends from below 0 to 1
    at = int(np.searchsorted(gap, 0))
    if gap[at] == 0 or at == 0:
        # above the first score nothing is accepted: FAR is 0 and TPR is 0
        share = 1.0 if at else 1 / (1 + gap[at])
        return float(share * of.far[at]), float(of.score[at])
    share = -gap[at - 1] / (gap[at] - gap[at - 1])
    far = of.far[at - 1] + share * (of.far[at] - of.far[at - 1])
    return float(far), float(of.score[at])


def at_far(of: Curve, most: float) -> tuple[float, float]:
    """TPR at the lowest score whose FAR is at most `most`, and that score."""
    at = int(np.searchsorted(of.far, most * (1 + 1e-12), side="right")) - 1
    return (float(of.tpr[at]), float(of.score[at])) if at >= 0 else (0.0, math.inf)


def resampled_interval(value: float, error: float, degrees: int, over: str) -> Interval:
    if not error > 0 or degrees < 1:
        missing = "no spread between resamples"
        return Interval(value, None, degrees + 1, over=over, missing=missing)
    return Interval(value, t_quantile(degrees) * error, degrees + 1, degrees=degrees, over=over)


def _unknown(of: Interval, far: float, of_pairs: Rates, impostors: str) -> Interval:
    """Where no threshold is strict enough, resamples find some by chance, and their spread says nothing."""
    count = len(of_pairs.impostor.score)
    highest = int((of_pairs.impostor.score == of_pairs.whole.score[0]).sum())
    missing = (
        f"too few {impostors} for this FAR"
        if count * far < 1
        else f"{highest:,} of {count:,} {impostors} have the highest similarity"
    )
    return of._replace(half_width=None, degrees=None, missing=missing)
