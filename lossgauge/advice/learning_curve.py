"""How much more labelled data would help: the winner again, with a quarter and with half of the training side.

If test classes are unseen in training, a smaller training side has fewer classes; of queries and documents it has fewer queries; otherwise it has fewer rows of each class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from lossgauge.advice.question import has_unseen_classes
from lossgauge.stats.intervals import Interval
from lossgauge.types import FeatureSet

SHARES = (0.25, 0.5)
"""Two doublings: enough to see whether the gain of a doubling falls. Our choice."""

IN_WORDS = {0.25: "a quarter", 0.5: "a half", 1.0: "all"}

_SEED = 0


class Point(NamedTuple):
    """The winner on a share of the training side."""

    share: float
    rows: int
    level: Interval


class Curve(NamedTuple):
    """Points by ascending share, the last with all of the training side; and what each doubling gained.

    A share that could not be measured has no point.
    """

    points: tuple[Point, ...]
    gains: tuple[Interval, ...]
    """Of each share over the half of it, paired by seed, where both have points; the last is that of all rows, if any is."""
    by_classes: bool
    """Whether a smaller training side has fewer classes."""
    missing: str = ""
    """Which shares have no point, and why; empty if all have one."""

    @property
    def next_gain(self) -> float | None:
        """What one more doubling would give, if the gains keep falling as they did; None unless the last gain is clearly
        above 0."""
        if not self.gains:
            return None
        last = self.gains[-1]
        if not last.excludes_zero or last.mean < 0:
            return None
        if len(self.gains) < 2 or self.gains[-2].mean <= 0:
            return last.mean
        return last.mean * min(1.0, last.mean / self.gains[-2].mean)


def with_less_training(features: FeatureSet, share: float) -> FeatureSet:
    """The same data with a share of the training side; the test side stays. A smaller share is a part of a larger one."""
    train = features.train.numpy()
    labels = features.labels.numpy()[train]
    generator = np.random.default_rng(_SEED)
    classes = generator.permutation(np.unique(labels))
    if features.pairs is not None:
        queries = generator.permutation(train)
        chosen = queries[: max(2, round(share * len(queries)))]
    elif has_unseen_classes(features):
        kept = classes[: max(2, round(share * len(classes)))]
        chosen = train[np.isin(labels, kept)]
    else:
        members = [generator.permutation(train[labels == label]) for label in classes]
        chosen = np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in members])
    return features._replace(train=torch.from_numpy(np.sort(chosen)))
