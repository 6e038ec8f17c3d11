"""Score thresholds: which similarity says that two rows are of one class, and how often that is wrong.

ISO/IEC 19795-1 for the error rates. A *genuine* pair is of one class, an *impostor* pair of two. FAR is the share of impostor
pairs at or above the threshold, TPR the share of genuine pairs there; at the EER, FAR = 1 − TPR. Pairs that share a row or
a class are alike, so the intervals draw whole classes again (Owen 2007, arXiv 0712.1111, for two-way resampling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.stats.intervals import Interval, interval, t_quantile

FARS = (1e-2, 1e-3)
RESAMPLES = 100
"""Enough to know a standard error to 7 %."""
CURVE_SCORES = 2000
"""Scores at which the rates of a resample are computed, of each kind of pair: fewer make no visible difference."""
FEW_CLASSES = 10
"""With fewer classes, rows inside the classes are drawn again instead of classes."""
LEAST_ROWS = 4
"""Rows of a class that can choose a threshold of its own on one half and be measured on the other."""


class OperatingPoint(NamedTuple):
    """A threshold, and the share of genuine pairs that reach it."""

    far: float
    """The largest share of impostor pairs that may reach it."""
    threshold: float
    """Infinite if even the highest score of an impostor pair is too frequent."""
    tpr: Interval


class Thresholds(NamedTuple):
    """Thresholds over all pairs of some rows, with 95 % intervals over new classes, or new rows where classes are few."""

    eer: Interval
    """Equal error rate: 0 if every genuine pair is more similar than every impostor pair, about 0.5 by chance."""
    eer_threshold: float
    at_far: tuple[OperatingPoint, ...]
    """The strictest last."""
    best_threshold: float
    """The threshold with the highest balanced accuracy."""
    best_accuracy: Interval
    """(TPR + 1 − FAR) / 2 at that threshold, in [0.5, 1]."""
    per_class_gain: Interval | None
    """What a threshold for each class adds to that accuracy, measured on rows that did not choose it. None if fewer
    than two classes have four rows."""
    genuine_count: int
    impostor_count: int
    row_count: int
    class_count: int


class _Curve(NamedTuple):
    """Rates at each distinct score, from the highest down."""

    score: Float64[np.ndarray, " scores"]
    tpr: Float64[np.ndarray, " scores"]
    far: Float64[np.ndarray, " scores"]


def thresholds(
    similarity: Float[Tensor, "rows rows"],
    labels: Int[Tensor, " rows"],
    *,
    fars: Sequence[float] = FARS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Thresholds:
    """Thresholds for a symmetric matrix of similarities; the diagonal is not used. Higher is more alike.

    Time grows as rows² × `resamples`: 1,000 rows take about half a second. Raises InputError unless there is a genuine and an impostor pair.
    """
    sides = _sides(similarity, labels)
    drawn = _drawn(sides, fars, resamples, seed)
    units, over = _units(labels)
    values = _numbers(sides.whole, fars, sides.best)
    spread = drawn.std(axis=0, ddof=1).tolist()
    intervals = [
        _interval(value, error, units, over) for value, error in zip(values, spread, strict=True)
    ]
    return Thresholds(
        eer=intervals[0],
        eer_threshold=_eer(sides.whole)[1],
        at_far=tuple(
            OperatingPoint(far, threshold, of_far if math.isfinite(threshold) else _unknown(of_far))
            for far, of_far in zip(fars, intervals[2:], strict=True)
            for _, threshold in [_at_far(sides.whole, far)]
        ),
        best_threshold=float(sides.whole.score[sides.best]),
        best_accuracy=intervals[1],
        per_class_gain=per_class_gain(similarity, labels, seed=seed),
        genuine_count=len(sides.genuine.score),
        impostor_count=len(sides.impostor.score),
        row_count=len(labels),
        class_count=len(labels.unique()),
    )


class Difference(NamedTuple):
    """What changed from one space to another, on the same rows: after minus before."""

    eer: Interval
    best_accuracy: Interval
    tpr: dict[float, Interval]
    """FAR → change of the TPR there."""


def threshold_difference(
    before: Float[Tensor, "rows rows"],
    after: Float[Tensor, "rows rows"],
    labels: Int[Tensor, " rows"],
    *,
    fars: Sequence[float] = FARS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Differences with 95 % intervals, paired: both spaces see the same rows in every resample."""
    sides = [_sides(similarity, labels) for similarity in (before, after)]
    first, second = (np.array(_numbers(side.whole, fars, side.best)) for side in sides)
    drawn = [_drawn(side, fars, resamples, seed) for side in sides]
    spread = (drawn[1] - drawn[0]).std(axis=0, ddof=1)
    units, over = _units(labels)
    eer, accuracy, *tpr = (
        _interval(value, error, units, over)
        for value, error in zip((second - first).tolist(), spread.tolist(), strict=True)
    )
    return Difference(eer, accuracy, dict(zip(fars, tpr, strict=True)))


class _Pairs(NamedTuple):
    """All pairs of rows of one kind, by descending score."""

    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]
    score: Float64[np.ndarray, " pairs"]

    def of_kind(self, which: Bool[np.ndarray, " pairs"]) -> _Pairs:
        return _Pairs(*(part[which] for part in self))


class _Sides(NamedTuple):
    """Genuine and impostor pairs, and their rates."""

    genuine: _Pairs
    impostor: _Pairs
    classes: Int64[np.ndarray, " rows"]
    whole: _Curve
    best: int
    """The score with the highest TPR − FAR, as its place in the curve."""


def _sides(similarity: Float[Tensor, "rows rows"], labels: Int[Tensor, " rows"]) -> _Sides:
    numbers, classes = labels.unique(return_inverse=True)
    first, second = np.triu_indices(len(labels), k=1)
    of = classes.numpy()
    scores = similarity.detach().double().numpy()[first, second]
    order = np.argsort(-scores, kind="stable")
    pairs = _Pairs(first[order], second[order], scores[order])
    same = of[pairs.first] == of[pairs.second]
    if same.all() or not same.any():
        what = "two rows of one class" if len(numbers) > 1 else "two classes"
        raise InputError(f"thresholds need {what}, got {len(labels)} rows of {len(numbers)}")
    ends = np.flatnonzero(np.append(pairs.score[1:] != pairs.score[:-1], True))
    whole = _curve(pairs.score[ends], np.cumsum(same)[ends], np.cumsum(~same)[ends])
    best = int(np.argmax(whole.tpr - whole.far))
    return _Sides(pairs.of_kind(same), pairs.of_kind(~same), of, whole, best)


def _curve(score: np.ndarray, genuine: np.ndarray, impostor: np.ndarray) -> _Curve:
    """The rates from the weights of the pairs at a score or above; NaN where one kind has no weight."""
    with np.errstate(invalid="ignore"):
        return _Curve(score, genuine / genuine[-1], impostor / impostor[-1])


def _drawn(
    of: _Sides, fars: Sequence[float], resamples: int, seed: int
) -> Float64[np.ndarray, "resamples numbers"]:
    """`_numbers` of each resample of the classes or rows."""
    few = int(of.classes.max()) + 1 < FEW_CLASSES
    score = _some_scores(of)
    best = int(np.flatnonzero(score == of.whole.score[of.best])[0])
    places = [np.searchsorted(-score, -pairs.score) for pairs in (of.genuine, of.impostor)]
    drawn = []
    for weight in _row_weights(of.classes, resamples, seed):
        # a class that is drawn twice brings its own pairs twice, and no pairs between its two copies
        of_genuine = weight[of.genuine.first] * (weight[of.genuine.second] if few else 1)
        of_impostor = weight[of.impostor.first] * weight[of.impostor.second]
        sums = (
            np.cumsum(np.bincount(place, weights, len(score)))
            for place, weights in zip(places, (of_genuine, of_impostor), strict=True)
        )
        again = _curve(score, *sums)
        if not (math.isnan(again.tpr[-1]) or math.isnan(again.far[-1])):
            drawn.append(_numbers(again, fars, best))
    return np.array(drawn if len(drawn) > 1 else [_numbers(of.whole, fars, of.best)] * 2)


def _some_scores(of: _Sides) -> Float64[np.ndarray, " scores"]:
    """Descending scores, close to each other where FAR is small; the best one and the lowest are among them."""
    some = [of.whole.score[[of.best, -1]]]
    for pairs in (of.genuine, of.impostor):
        ranks = np.geomspace(1, len(pairs.score), CURVE_SCORES).astype(np.int64) - 1
        even = np.linspace(0, len(pairs.score) - 1, CURVE_SCORES).astype(np.int64)
        some += [pairs.score[ranks], pairs.score[even]]
    return np.unique(np.concatenate(some))[::-1]


def _units(labels: Int[Tensor, " rows"]) -> tuple[int, str]:
    """Degrees of freedom of the intervals, and what they are over."""
    classes = len(labels.unique())
    if classes < FEW_CLASSES:
        return len(labels) - classes, "new rows of the same classes"
    return classes - 1, "new classes"


def _numbers(of: _Curve, fars: Sequence[float], best: int) -> list[float]:
    """EER, balanced accuracy at the `best` score, and the TPR at each FAR."""
    accuracy = (of.tpr[best] + 1 - of.far[best]) / 2
    return [_eer(of)[0], float(accuracy), *(_at_far(of, far)[0] for far in fars)]


def _eer(of: _Curve) -> tuple[float, float]:
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


def _at_far(of: _Curve, most: float) -> tuple[float, float]:
    """TPR at the lowest score whose FAR is at most `most`, and that score."""
    at = int(np.searchsorted(of.far, most * (1 + 1e-12), side="right")) - 1
    return (float(of.tpr[at]), float(of.score[at])) if at >= 0 else (0.0, math.inf)


def _row_weights(
    classes: Int64[np.ndarray, " rows"], resamples: int, seed: int
) -> list[Float64[np.ndarray, " rows"]]:
    """How often each row is drawn: with its class, or, where classes are few, alone inside its class."""
    generator = np.random.default_rng(seed)
    count = int(classes.max()) + 1
    if count >= FEW_CLASSES:
        even = np.full(count, 1 / count)
        return [generator.multinomial(count, even)[classes].astype(float) for _ in range(resamples)]
    sizes = np.bincount(classes)
    places = [np.flatnonzero(classes == label) for label in range(count)]
    drawn = []
    for _ in range(resamples):
        weight = np.zeros(len(classes))
        for place, size in zip(places, sizes, strict=True):
            weight[place] = generator.multinomial(size, np.full(size, 1 / size))
        drawn.append(weight)
    return drawn


def _interval(value: float, error: float, degrees: int, over: str) -> Interval:
    if not error > 0 or degrees < 1:
        missing = "no spread between resamples"
        return Interval(value, None, degrees + 1, over=over, missing=missing)
    return Interval(value, t_quantile(degrees) * error, degrees + 1, degrees=degrees, over=over)


def _unknown(of: Interval) -> Interval:
    """Where no threshold is strict enough, resamples find some by chance, and their spread says nothing."""
    return of._replace(
        half_width=None, degrees=None, missing="too few pairs of two classes for this FAR"
    )


def per_class_gain(
    similarity: Float[Tensor, "rows rows"], labels: Int[Tensor, " rows"], *, seed: int = 0
) -> Interval | None:
    """Mean gain in balanced accuracy if each class has its own threshold instead of the one best for all.

    Thresholds are chosen on one half of the rows of each class and measured on the other, and the reverse: on the
    same pairs, more thresholds would always seem to help. It can be negative. Classes of fewer than four rows take no part.
    """
    numbers, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    chosen = (sizes >= LEAST_ROWS).nonzero().flatten()
    if len(chosen) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    halves = torch.empty(len(labels), dtype=torch.bool)
    for label in range(len(numbers)):
        rows = (classes == label).nonzero().flatten()
        halves[rows[torch.randperm(len(rows), generator=generator)]] = (
            torch.arange(len(rows)) % 2 == 0
        )
    gains = torch.zeros(2, len(chosen), dtype=torch.float64)
    for turn, half in enumerate((halves, ~halves)):
        fit, test = half.nonzero().flatten(), (~half).nonzero().flatten()
        fit_parts, test_parts = (
            _by_class(similarity[rows][:, rows].double(), classes[rows], chosen)
            for rows in (fit, test)
        )
        one = best_threshold(
            torch.cat([genuine for genuine, _ in fit_parts]),
            torch.cat([impostor for _, impostor in fit_parts]),
        )
        for place, (fitted, measured) in enumerate(zip(fit_parts, test_parts, strict=True)):
            own = best_threshold(*fitted)
            gains[turn, place] = _accuracy(*measured, own) - _accuracy(*measured, one)
    return _over_classes(interval(gains.mean(dim=0).tolist()), len(chosen))


def _over_classes(of: Interval | None, classes: int) -> Interval | None:
    if of is None or of.half_width is not None:
        return of and of._replace(over="new classes")
    return of._replace(size=classes, over="new classes", missing="the same gain in each class")


def _by_class(
    similarity: Float64[Tensor, "rows rows"],
    classes: Int[Tensor, " rows"],
    chosen: Int[Tensor, " some"],
) -> list[tuple[Float64[Tensor, " genuine"], Float64[Tensor, " impostor"]]]:
    """For each class, the scores of its own pairs, and of the pairs with one end in it."""
    parts = []
    for label in chosen:
        inside: Bool[Tensor, " rows"] = classes == label
        own = similarity[inside][:, inside]
        upper = torch.ones_like(own, dtype=torch.bool).triu(diagonal=1)
        parts.append((own[upper], similarity[inside][:, ~inside].flatten()))
    return parts


def best_threshold(
    genuine: Float64[Tensor, " genuine"], impostor: Float64[Tensor, " impostor"]
) -> float:
    """The score t for which TPR − FAR of `score ≥ t` is largest, in the middle of the gap below it; the highest of several."""
    scores, order = torch.cat([genuine, impostor]).sort(descending=True)
    is_genuine = order < len(genuine)
    gain = torch.where(is_genuine, 1 / len(genuine), -1 / len(impostor)).double().cumsum(0)
    last_of_ties = torch.ones_like(is_genuine)
    last_of_ties[:-1] = scores[1:] != scores[:-1]
    at = int(torch.where(last_of_ties, gain, -torch.inf).argmax())
    below = scores[at + 1] if at + 1 < len(scores) else scores[at]
    return float((scores[at] + below) / 2)


def _accuracy(genuine: Tensor, impostor: Tensor, threshold: float) -> float:
    """Balanced accuracy of `score ≥ threshold`."""
    right = (genuine >= threshold).double().mean() + (impostor < threshold).double().mean()
    return float(right) / 2
