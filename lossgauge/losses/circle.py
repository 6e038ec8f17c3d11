"""Circle loss: each similarity weighted by its distance from its optimum, with weights that get no gradient.

Sun et al. 2020, eq. 6. A term is an anchor with a positive and a negative, of value softplus(v),
v = log Σ_n e^{γ α_n (s_in − m)} + log Σ_p e^{−γ α_p (s_ip − 1 + m)}, with the weights α_n = [s_in + m]₊ and α_p = [1 + m − s_ip]₊.
As in the paper, the weights are constants for the gradient, so the gradient is not the derivative of the value.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Terms
from lossgauge.losses.compiled import KernelSpec, anchors_with_both
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss, pair_masks
from lossgauge.losses.settings import SearchRange, above_zero, setting, zero_or_more
from lossgauge.losses.softmax_family import log_sum
from lossgauge.losses.surrogate import Surrogate


def circle_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    margin: float,
    scale: float,
    tolerance: float,
) -> Terms:
    """Terms over anchors. W = sigmoid(v): both sides together get this share of a full-strength update."""
    valid = positive.any(dim=1) & negative.any(dim=1)
    slope = torch.where(
        positive, similarity - (1 + margin), (similarity + margin).clamp_(min=0)
    ).mul_(scale)
    slope = torch.where(positive, slope.clamp(max=0), slope)  # −γα_p, γα_n
    exponents = slope * torch.where(positive, similarity - (1 - margin), similarity - margin)
    of_positives, log_positives = log_sum(exponents, positive & valid[:, None])
    of_negatives, log_negatives = log_sum(exponents, negative & valid[:, None])
    v = log_positives + log_negatives
    value = torch.logaddexp(v, v.new_zeros(()))[:, 0]
    weight = v.sigmoid_()
    shares = of_positives.sub_(log_positives).exp_().add_(of_negatives.sub_(log_negatives).exp_())
    return Terms(
        value=value,
        counts=valid.long(),
        active=(value > tolerance).long(),
        weight=weight[:, 0],
        gradient=shares.mul_(slope).mul_(weight),
    )


class Circle(Surrogate, PairLoss):
    """Circle loss over dot products of the embeddings; normalise them first for cosines. `scale` is the paper's γ."""

    group = "other"
    surrogate: ClassVar[str] = "its weights α get no gradient"

    matrix = DOT_PRODUCTS
    margin: float = setting(default=0.4, check=zero_or_more, search=SearchRange(0.05, 0.5))
    scale: float = setting(
        default=80.0, check=above_zero, search=SearchRange(16.0, 256.0, log=True)
    )

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return circle_terms(
            matrix,
            positive,
            negative,
            margin=self.margin,
            scale=self.scale,
            tolerance=self.tolerance,
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.circle import circle_rows

        return KernelSpec(
            circle_rows,
            (self.margin, self.tolerance),
            counts=anchors_with_both,
            further=(self.scale,),
        )

    def stated_gradient(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """By autograd, with the weights α as numbers."""
        positive, negative = pair_masks(labels)
        valid = positive.any(dim=1) & negative.any(dim=1)
        rows = embeddings.detach().clone().requires_grad_()
        with torch.enable_grad():
            s = rows @ rows.T
            weight_n = (s.detach() + self.margin).relu() * self.scale
            weight_p = (1 + self.margin - s.detach()).relu() * self.scale
            of_negatives = (weight_n * (s - self.margin)).masked_fill(~negative, -torch.inf)
            of_positives = (weight_p * (1 - self.margin - s)).masked_fill(~positive, -torch.inf)
            v = of_negatives[valid].logsumexp(dim=1) + of_positives[valid].logsumexp(dim=1)
            value = torch.nn.functional.softplus(v, threshold=700)
            counted = value > self.tolerance if self.reduction == "active" else value.isfinite()
            total = value.sum() / counted.sum().clamp(min=1)
            (gradient,) = torch.autograd.grad(total, rows)
        return gradient
