"""Relaxed contrastive learning: InfoNCE, and a penalty that keeps the positives of an anchor from becoming equal.

FedRCL, Seo et al. 2024, arXiv 2401.04928. The value is the mean of InfoNCE's terms, and β times the mean over anchors i of
[s_i ≥ λ]·log(1 + e^{(s_i − 1)/τ}), s_i the similarity of i's least similar positive. Its force pushes that positive away as soon as all positives
are closer than λ: so it raises the variance inside classes by design.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Outcome, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import (
    SearchRange,
    above_zero,
    any_finite,
    one_of,
    setting,
    zero_or_more,
)
from lossgauge.losses.softmax_family import softplus_terms

PENALTY = "penalty_active"

NEAREST_NEGATIVES = 2
"""What `mining="hardest"` keeps of an anchor's negatives, as the authors' code does."""


def hardest_masks(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
) -> tuple[Bool[Tensor, "rows columns"], Bool[Tensor, "rows columns"]]:
    """The least similar positive of each row, and its most similar negatives."""
    least = similarity.masked_fill(~positive, torch.inf).argmin(dim=1, keepdim=True)
    most = min(NEAREST_NEGATIVES, similarity.shape[1])
    nearest = similarity.masked_fill(~negative, -torch.inf).topk(most, dim=1).indices
    none = torch.zeros_like(positive)
    return (
        none.scatter(1, least, True) & positive,
        none.scatter(1, nearest, True) & negative,
    )


def relaxed_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    penalty_weight: float,
    threshold: float,
    temperature: float,
    tolerance: float,
) -> Terms:
    """InfoNCE's terms, with the penalty in the value and the gradient of its anchor. W is that of InfoNCE's terms."""
    terms = softplus_terms(
        similarity, positive, negative, temperature=temperature, tolerance=tolerance
    )
    anchors = positive.any(dim=1)
    least, column = similarity.masked_fill(~positive, torch.inf).min(dim=1)
    active = anchors & (least >= threshold)
    v = (torch.where(active, least, 0) - 1) / temperature
    # the reducer divides by InfoNCE's terms, and the penalty is a mean over anchors
    # a quotient of counts would be in float32
    anchor_count, term_count = (n.sum().to(similarity.dtype) for n in (anchors, terms.counts))
    factor = active * (penalty_weight * term_count / anchor_count.clamp(min=1))
    repulsion = torch.zeros_like(similarity).scatter_(
        1, column[:, None], (factor * v.sigmoid() / temperature)[:, None]
    )
    return terms._replace(
        value=terms.value + factor * torch.logaddexp(v, v.new_zeros(())),
        gradient=terms.gradient + repulsion,
        repulsion=repulsion,
        columns={PENALTY: float(active.sum().double() / anchor_count)},
    )


class Relaxed(PairLoss):
    """Relaxed contrastive loss over dot products; normalise the rows first for cosines.

    `mining="hardest"` takes for each anchor only its least similar positive and its two most similar negatives. The evaluation
    has the share of anchors whose penalty acts, `penalty_active`; its force is part of push.
    """

    group = "related"
    aliases = ("relaxed_contrastive", "fedrcl", "rcl")
    columns = (PENALTY,)

    matrix = DOT_PRODUCTS
    penalty_weight: float = setting(
        default=1.0, check=zero_or_more, search=SearchRange(0.01, 10.0, log=True)
    )
    threshold: float = setting(default=0.7, check=any_finite, search=SearchRange(0.3, 0.95))
    temperature: float = setting(
        default=0.05, check=above_zero, search=SearchRange(0.01, 1.0, log=True)
    )
    mining: str = setting(default="all", check=one_of("all", "hardest"), tunable=False)

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        if self.mining == "hardest":
            positive, negative = hardest_masks(matrix, positive, negative)
        return relaxed_terms(
            matrix,
            positive,
            negative,
            penalty_weight=self.penalty_weight,
            threshold=self.threshold,
            temperature=self.temperature,
            tolerance=self.tolerance,
        )

    def kernel(self) -> KernelSpec | None:
        if self.mining == "hardest":
            return None
        from lossgauge.kernels.relaxed import penalties, relaxed_rows

        return KernelSpec(
            relaxed_rows,
            (self.temperature, self.tolerance),
            counts=lambda positives, negatives: positives,
            further=(self.penalty_weight, self.threshold),
            beside=penalties,
            finish=_with_share_of_penalties,
        )


def _with_share_of_penalties(outcome: Outcome, sums: Float[Tensor, "2 batch"]) -> Outcome:
    share = (sums[1] >= 0).sum().double() / outcome.counts.count_nonzero()
    return outcome._replace(columns={PENALTY: float(share)})
