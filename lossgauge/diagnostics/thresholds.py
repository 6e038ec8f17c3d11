"""Score thresholds: which similarity says that two rows are of one class, and how often that is wrong.

ISO/IEC 19795-1 for the error rates. A *genuine* pair is of one class, an *impostor* pair of two. FAR is the share of impostor
pairs at or above the threshold, TPR the share of genuine pairs there; at the EER, FAR = 1 − TPR.
"""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.stats.intervals import Interval


class OperatingPoint(NamedTuple):
    """A threshold, and the share of genuine pairs that reach it."""

    far: float
    """The largest share of impostor pairs that may reach it."""
    threshold: float
    tpr: Interval


class Thresholds(NamedTuple):
    """Thresholds over all pairs of some rows, with 95 % intervals over new classes, or new rows where classes are few."""

    eer: Interval
    """Equal error rate, in [0, 0.5] for a useful space: the error of both kinds where they are equal."""
    eer_threshold: float
    at_far: tuple[OperatingPoint, ...]
    """The strictest last."""
    best_threshold: float
    """The threshold with the highest balanced accuracy."""
    best_accuracy: Interval
    """(TPR + 1 − FAR) / 2 at that threshold, in [0.5, 1]."""
    per_class_gain: Interval | None
    """What a threshold for each class adds to that accuracy, measured on rows that did not choose it. None if no class has four rows."""
    genuine_count: int
    impostor_count: int
    row_count: int
    class_count: int
