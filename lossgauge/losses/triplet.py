"""Triplet loss over every triplet of the batch (batch-all).

Schroff, Kalenichenko, Philbin 2015 (FaceNet): a term is a triplet (anchor, positive, negative) of value
[D²_ap − D²_an + margin]₊, squared Euclidean distances. No triplet is listed: with an anchor's negatives
sorted, a positive's sum over them is one difference of prefix sums, so memory stays at batch².
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import DistanceLoss, Outcome, Terms, non_negative
from lossgauge.losses.compiled import KernelSpec, swept_outcome


def triplet_terms(
    squared_distance: Float[Tensor, "batch batch"],
    positive: Bool[Tensor, "batch batch"],
    negative: Bool[Tensor, "batch batch"],
    *,
    margin: float,
    tolerance: float,
) -> Terms:
    """Terms over all triplets; W = 1 for a violated triplet, so an anchor's W is its share of them."""
    reach = torch.where(positive, squared_distance + margin, -torch.inf)
    rival = torch.where(negative, squared_distance, torch.inf)
    sorted_rivals = rival.sort(dim=1).values
    violated = torch.searchsorted(sorted_rivals, reach)
    # in float64: the difference of two long prefix sums cancels
    sums = torch.where(sorted_rivals.isinf(), 0, sorted_rivals).cumsum(dim=1, dtype=torch.float64)
    sums = torch.nn.functional.pad(sums, (1, 0)).gather(1, violated)
    value = (violated * torch.where(positive, reach, 0).double()).sub_(sums).sum(dim=1)
    # how many positives of the anchor reach beyond each of its negatives
    reached = reach.shape[1] - torch.searchsorted(reach.sort(dim=1).values, rival, right=True)
    return Terms(
        value=value.to(squared_distance.dtype),
        counts=positive.sum(dim=1) * negative.sum(dim=1),
        active=torch.searchsorted(sorted_rivals, reach - tolerance).sum(dim=1),
        weight=violated.sum(dim=1).to(squared_distance.dtype),
        gradient=(violated - reached).to(squared_distance.dtype),
    )


class Triplet(DistanceLoss):
    """Batch-all triplet loss; a sample without a positive or without a negative is no anchor."""

    def __init__(
        self, *, margin: float = 0.2, reduction: str = "mean", tolerance: float = 1e-6
    ) -> None:
        super().__init__(reduction=reduction, tolerance=tolerance)
        self.margin = non_negative("margin", margin)

    def terms(
        self,
        squared_distance: Float[Tensor, "batch batch"],
        positive: Bool[Tensor, "batch batch"],
        negative: Bool[Tensor, "batch batch"],
    ) -> Terms:
        return triplet_terms(
            squared_distance, positive, negative, margin=self.margin, tolerance=self.tolerance
        )

    def swept(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome | None:
        sweep = KernelSpec(
            "triplet_rows",
            (self.margin, self.tolerance),
            distances=True,
            counts=lambda positives, negatives: positives * negatives,
        )
        return swept_outcome(sweep, embeddings, labels)
