"""Two values to compare a loss with: that of a space at one point, and that of a perfect space.

In a perfect space each class is a point and the classes are a simplex: any two are D² = 2C/(C − 1) apart. A loss whose value
there is far above 0 cannot come near 0, which is normal; one for which the two values are nearly equal can show no progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lossgauge.losses.registry import LOSSES, all_settings, our_name


class LossValues(NamedTuple):
    """Values of a loss on unit vectors, for batches with equal numbers of each class."""

    collapsed: float
    """If all embeddings, and all class rows of the loss, are one point."""
    perfect: float

    @property
    def range(self) -> float:
        """How far the loss can fall; negative if a perfect space has the higher value."""
        return self.collapsed - self.perfect


def loss_values(
    loss: str | None,
    settings: Mapping[str, object] | None = None,
    *,
    batch_size: float | None = None,
    class_count: int | None = None,
    term_count: float | None = None,
) -> LossValues | None:
    """The two values of one of the seven losses; None for another loss, and where a number that it needs is not known.

    A setting that is not given has its default. Classes have equal shares of the batch, and at least a pair each. The
    mean number of terms in a batch tells how many classes n_pair really has there.
    """
    name = our_name(loss) if loss else ""
    if name not in LOSSES:
        return None
    taken = all_settings(name, settings or {})
    if name == "triplet" and class_count is None:
        # its collapsed value needs no counts; two classes can be the farthest apart
        return _triplet(taken, _Batch(math.nan, 2, None))
    if class_count is None or class_count < 2:
        return None
    if batch_size is None and name not in ("triplet", "arcface", "ccl"):
        return None
    return _FORMULAS[name](taken, _Batch(batch_size or math.nan, class_count, term_count))


class _Batch(NamedTuple):
    rows: float
    classes: int
    terms: float | None

    @property
    def positives(self) -> float:
        """Of an anchor."""
        return max(1.0, self.rows / self.classes - 1)

    @property
    def negatives(self) -> float:
        return self.rows - 1 - self.positives

    @property
    def gap(self) -> float:
        """Similarity inside a class minus that between two, in a perfect space."""
        return self.classes / (self.classes - 1)


def _contrastive(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    share = 1.0 if of["reduction"] == "active" else batch.negatives / (batch.rows - 1)
    shortfall = max(0.0, of["margin"] - math.sqrt(2 * batch.gap))
    return LossValues(of["margin"] ** 2 * share, shortfall**2 * share)


def _triplet(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    apart = 2 * batch.gap
    distance = apart if of["power"] == 2 else math.sqrt(apart)
    return LossValues(of["margin"], max(0.0, of["margin"] - distance))


def _n_pair(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    # a term is a class with a pair: in a random batch, some classes have none
    others = max(1.0, (batch.terms or min(batch.classes, batch.rows / 2)) - 1)
    extra = of["norm_weight"] / 2
    return LossValues(
        math.log1p(others) + extra,
        math.log1p(others * math.exp(-batch.gap / of["temperature"])) + extra,
    )


def _info_nce(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    return LossValues(
        math.log1p(batch.negatives),
        math.log1p(batch.negatives * math.exp(-batch.gap / of["temperature"])),
    )


def _scl(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    left = batch.negatives * math.exp(-batch.gap / of["temperature"])
    return LossValues(math.log(batch.rows - 1), math.log(batch.positives + left))


def _arcface(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    margin, others = math.cos(of["margin"]), batch.classes - 1
    return LossValues(
        _softplus(math.log(others) + of["scale"] * (1 - margin)),
        _softplus(math.log(others) + of["scale"] * (1 - batch.gap - margin)),
    )


def _ccl(of: Mapping[str, Any], batch: _Batch) -> LossValues:
    raised = math.log(batch.classes - 1) + of["scale"] * of["margin"]
    return LossValues(_softplus(raised), _softplus(raised - of["scale"] * batch.gap))


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


_FORMULAS: dict[str, Callable[[Mapping[str, Any], _Batch], LossValues]] = {
    "contrastive": _contrastive,
    "triplet": _triplet,
    "n_pair": _n_pair,
    "info_nce": _info_nce,
    "arcface": _arcface,
    "scl": _scl,
    "ccl": _ccl,
}
