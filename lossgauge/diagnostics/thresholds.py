"""Score thresholds: which similarity says that two rows are of one class, and how often that is wrong.

ISO/IEC 19795-1 for the error rates. A *genuine* pair is of one class, an *impostor* pair of two. FAR is the share of impostor
pairs at or above the threshold, TPR the share of genuine pairs there; at the EER, FAR = 1 − TPR. Pairs that share a row or
a class are alike, so the intervals draw whole classes again (Owen 2007, arXiv 0712.1111, for two-way resampling).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from lossgauge.diagnostics.error_rates import (
    FARS,
    RESAMPLES,
    OperatingPoint,
    Pairs,
    Rates,
    Weights,
    drawn,
    numbers,
    rates,
    rates_with_intervals,
    resampled_interval,
)
from lossgauge.errors import InputError
from lossgauge.stats.intervals import Interval, interval

FEW_CLASSES = 10
"""With fewer classes, rows inside the classes are drawn again instead of classes."""
LEAST_ROWS = 10
"""Rows of a class that can choose a threshold of its own on one half and be measured on the other: five have ten pairs."""


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
    than two classes have ten rows."""
    genuine_count: int
    impostor_count: int
    row_count: int
    class_count: int


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
    of, classes = _rates(similarity, labels)
    units, over = _units(labels)
    found = rates_with_intervals(
        of,
        _weights(of, classes, resamples, seed),
        fars,
        degrees=units,
        over=over,
        impostors="pairs of two classes",
    )
    return Thresholds(
        **found._asdict(),
        per_class_gain=per_class_gain(similarity, labels, seed=seed),
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
    sides = [_rates(similarity, labels) for similarity in (before, after)]
    first, second = (np.array(numbers(of.whole, fars, of.best)) for of, _ in sides)
    again = [drawn(of, _weights(of, classes, resamples, seed), fars) for of, classes in sides]
    spread = (again[1] - again[0]).std(axis=0, ddof=1)
    units, over = _units(labels)
    change, accuracy, *tpr = (
        resampled_interval(value, error, units, over)
        for value, error in zip((second - first).tolist(), spread.tolist(), strict=True)
    )
    return Difference(change, accuracy, dict(zip(fars, tpr, strict=True)))


def _rates(
    similarity: Float[Tensor, "rows rows"], labels: Int[Tensor, " rows"]
) -> tuple[Rates, Int64[np.ndarray, " rows"]]:
    """The rates of all pairs, and the class of each row."""
    labels_there, classes = labels.unique(return_inverse=True)
    first, second = np.triu_indices(len(labels), k=1)
    scores = similarity.detach().double().numpy()[first, second]
    of = classes.numpy()
    same = of[first] == of[second]
    if same.all() or not same.any():
        what = "two rows of one class" if len(labels_there) > 1 else "two classes"
        raise InputError(f"thresholds need {what}, got {len(labels)} rows of {len(labels_there)}")
    return rates(Pairs(first, second, scores), same), of


def _weights(
    of: Rates, classes: Int64[np.ndarray, " rows"], resamples: int, seed: int
) -> Iterator[Weights]:
    """Weights of the pairs in each resample of the classes or rows."""
    few = int(classes.max()) + 1 < FEW_CLASSES
    for weight in _row_weights(classes, resamples, seed):
        # a class that is drawn twice brings its own pairs twice, and no pairs between its two copies
        yield (
            weight[of.genuine.first] * (weight[of.genuine.second] if few else 1),
            weight[of.impostor.first] * weight[of.impostor.second],
        )


def _units(labels: Int[Tensor, " rows"]) -> tuple[int, str]:
    """Degrees of freedom of the intervals, and what they are over."""
    classes = len(labels.unique())
    if classes < FEW_CLASSES:
        return len(labels) - classes, "new rows of the same classes"
    return classes - 1, "new classes"


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


def per_class_gain(
    similarity: Float[Tensor, "rows rows"], labels: Int[Tensor, " rows"], *, seed: int = 0
) -> Interval | None:
    """Mean gain in balanced accuracy if each class has its own threshold instead of the one best for all.

    Thresholds are chosen on one half of the rows of each class and measured on the other, and the reverse: on the
    same pairs, more thresholds would always seem to help. It can be negative. Classes of fewer than ten rows take no part: their own
    threshold would be worse only because so few pairs choose it. None if fewer than two are left.
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
