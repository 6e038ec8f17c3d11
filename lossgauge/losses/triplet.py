"""Triplet loss over every triplet of the batch (batch-all).

Schroff, Kalenichenko, Philbin 2015 (FaceNet): a term is a triplet (anchor, positive, negative) of value
[D²_ap − D²_an + margin]₊, squared Euclidean distances; `power=1` is the form without squares. Triplets are not stored one by one: the
negatives of an anchor are sorted, and the sum for a positive is a difference of prefix sums, so memory grows only as batch².
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.losses.base import Near, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import SQUARED_DISTANCES, PairLoss
from lossgauge.losses.settings import SearchRange, count, setting, zero_or_more


def triplet_terms(
    squared_distance: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    margin: float,
    tolerance: float,
    power: int = 2,
) -> Terms:
    """Terms over all triplets; W = 1 for a violated triplet, so the W of an anchor is the share of its violated triplets.

    With `power` 1 they compare distances, with 2 squared distances.
    """
    distance = squared_distance if power == 2 else squared_distance.sqrt()
    # a negative below the limit of a positive is a violated triplet
    limit = torch.where(positive, distance + margin, -torch.inf)
    to_negatives = torch.where(negative, distance, torch.inf)
    sorted_distances = to_negatives.sort(dim=1).values
    violated = torch.searchsorted(sorted_distances, limit)
    # in float64, because the difference of two long prefix sums loses digits
    sums = torch.where(sorted_distances.isinf(), 0, sorted_distances).cumsum(
        dim=1, dtype=torch.float64
    )
    sums = torch.nn.functional.pad(sums, (1, 0)).gather(1, violated)
    value = (violated * torch.where(positive, limit, 0).double()).sub_(sums).sum(dim=1)
    # the number of the anchor's limits above each of its negatives
    above = limit.shape[1] - torch.searchsorted(limit.sort(dim=1).values, to_negatives, right=True)
    gradient = (violated - above).to(squared_distance.dtype)
    if power == 1:
        # ∂D/∂D² = 1/(2D): at D = 0 there is no direction, so no force
        gradient = torch.where(distance > 0, gradient / (2 * distance), 0)
    return Terms(
        value=value.to(squared_distance.dtype),
        counts=positive.sum(dim=1) * negative.sum(dim=1),
        active=torch.searchsorted(sorted_distances, limit - tolerance).sum(dim=1),
        weight=violated.sum(dim=1).to(squared_distance.dtype),
        gradient=gradient,
    )


def one_or_two(name: str, value: Any) -> int:
    """`value`, which is 1 (distances) or 2 (squared distances)."""
    if isinstance(value, bool) or count(name, value) not in (1, 2):
        raise InputError(f"{name} must be 1 (distances) or 2 (squared distances), got {value}")
    return int(value)


class Triplet(PairLoss):
    """Batch-all triplet loss; a sample without a positive or without a negative is not an anchor."""

    group = "paper"
    near = (
        Near(
            "triplet_margin",
            differs="give it power=1 for the distances without squares of TripletMarginLoss; it takes every "
            "triplet of the batch",
        ),
        Near(
            "batch_all_triplet",
            "batch_all",
            differs="it takes every triplet of the batch and squares the distances, as FaceNet does",
        ),
        Near(
            "facenet",
            "batch_hard_triplet",
            "batch_hard_soft_margin_triplet",
            "batch_semi_hard_triplet",
            "triplet_hard",
            "triplet_semi_hard",
            differs="it takes every triplet of the batch, and not only the hard ones; distances are squared",
        ),
    )

    matrix = SQUARED_DISTANCES
    drawn_terms = "triplet"
    margin: float = setting(
        default=0.2, check=zero_or_more, search=SearchRange(0.02, 1.0, log=True)
    )
    power: int = setting(default=2, check=one_or_two)

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return triplet_terms(
            matrix,
            positive,
            negative,
            margin=self.margin,
            tolerance=self.tolerance,
            power=self.power,
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.triplet import triplet_rows, unsquared_triplet_rows

        return KernelSpec(
            triplet_rows if self.power == 2 else unsquared_triplet_rows,
            (self.margin, self.tolerance),
            counts=lambda positives, negatives: positives * negatives,
        )
