"""Contrastive loss: positives close, negatives at least a margin apart.

Hadsell, Chopra, LeCun 2006, in the form of arXiv 2510.02161 (no factor ½): a term is an ordered pair;
a positive's value is D², a negative's [margin − D]₊², with D the Euclidean distance.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Near, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import SQUARED_DISTANCES, PairLoss
from lossgauge.losses.settings import SearchRange, setting, zero_or_more


def contrastive_terms(
    squared_distance: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    margin: float,
    tolerance: float,
) -> Terms:
    """Terms over ordered pairs. W is the force along D as a share of the strongest on the sphere:
    D/2 for a positive, [margin − D]₊/margin for a negative (our choice: the literature does not define it)."""
    distance = squared_distance.sqrt()
    shortfall = (margin - distance).clamp_(min=0)
    value = torch.where(positive, squared_distance, shortfall.square())
    # ∂[m − D]²/∂D² = −(m − D)/D: at D = 0 there is no direction, so no force
    repulsion = torch.where(distance > 0, -shortfall / distance, 0)
    pairs = positive | negative
    weight = torch.where(
        positive, (distance / 2).clamp_(max=1), shortfall / margin if margin else 0
    )
    return Terms(
        value=value.mul_(pairs).sum(dim=1),
        counts=pairs.sum(dim=1),
        active=(value > tolerance).sum(dim=1),
        weight=weight.mul_(pairs).sum(dim=1),
        gradient=torch.where(positive, 1.0, repulsion).mul_(pairs),
    )


class Contrastive(PairLoss):
    """Contrastive loss over all ordered pairs of the batch; a sample without positives still has negative pairs."""

    group = "paper"
    near = (
        Near(
            "online_contrastive",
            differs="it takes all pairs of the batch, and not only the hard ones",
        ),
    )

    matrix = SQUARED_DISTANCES
    drawn_terms = "pair"
    margin: float = setting(default=1.0, check=zero_or_more, search=SearchRange(0.1, 2.0))

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return contrastive_terms(
            matrix, positive, negative, margin=self.margin, tolerance=self.tolerance
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.contrastive import contrastive_rows

        return KernelSpec(
            contrastive_rows,
            (self.margin, self.tolerance),
            counts=lambda positives, negatives: positives + negatives,
        )
