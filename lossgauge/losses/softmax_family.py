"""What InfoNCE, N-pair, ArcFace and CCL share: one scalar v per positive.

v = log Σ_negatives e^{s/τ} − s_positive/τ. A term's value is softplus(v) = −log softmax of the positive
among itself and the negatives, and its weight W = sigmoid(v) is the share of a full-strength update.
Written in v, not as a softmax, the value stays exact where it is tiny and the gradient where τ is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Terms


def softplus_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
    tolerance: float,
) -> Terms:
    """Terms over (row, positive) pairs; the other positives of a row are not in its denominator.

    A row without negatives has terms of value and weight 0.
    """
    logits = similarity / temperature
    # A finite stand-in for "no negatives": −inf would turn −inf − (−inf) into NaN below.
    lowest = torch.finfo(logits.dtype).min / 4
    rivals = logits.masked_fill(~negative, -torch.inf)
    log_sum_negatives = rivals.logsumexp(dim=1, keepdim=True).clamp_(min=lowest)
    v = log_sum_negatives - logits
    # not softplus, which drops e^{−v} above a threshold of 20
    value = torch.logaddexp(v, v.new_zeros(())).mul_(positive)
    weight = v.sigmoid_().mul_(positive)
    total_weight = weight.sum(dim=1)
    share = rivals.sub_(log_sum_negatives).exp_()
    return Terms(
        value=value.sum(dim=1),
        counts=positive.sum(dim=1),
        active=(value > tolerance).sum(dim=1),
        weight=total_weight,
        gradient=share.mul_(total_weight[:, None]).sub_(weight).div_(temperature),
    )


class NegativeTerms(NamedTuple):
    """Terms of samples against class rows: one a sample, its own class against all others."""

    value: Float[Tensor, " batch"]
    active: Int[Tensor, " batch"]
    weight: Float[Tensor, " batch"]
    """W; scale · W is the force at the target."""
    total: Float[Tensor, " batch"]
    """Σ|∂value/∂cosine| over the rivals, in float64 …"""
    squares: Float[Tensor, " batch"]
    """… and the sum of their squares."""


def rival_terms(
    cosine: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    target: Float[Tensor, " batch"],
    *,
    scale: float,
    tolerance: float,
) -> NegativeTerms:
    """Terms of value softplus(log Σ_rivals e^{scale · cosine} − scale · target), in place.

    `cosine` becomes ∂value/∂cosine of the rivals, 0 at each sample's own class. With one class there is no
    rival, and value and weight are 0.
    """
    lowest = torch.finfo(cosine.dtype).min / 4
    rivals = cosine.scatter_(1, labels[:, None], -torch.inf)
    # Differences first: both sides are large where the scale is. NegativeTerms to the nearest of them, not to the
    # target: a large margin would round them all to one number.
    top = rivals.amax(dim=1).clamp_(min=lowest)
    log_sum_negatives = rivals.sub_(top[:, None]).mul_(scale).logsumexp(dim=1).clamp_(min=lowest)
    v = (top - target).mul_(scale).add_(log_sum_negatives)
    value = torch.logaddexp(v, v.new_zeros(()))
    weight = v.sigmoid()
    force = rivals.sub_(log_sum_negatives[:, None]).exp_().mul_((weight * scale)[:, None])
    return NegativeTerms(
        value=value,
        active=(value > tolerance).long(),
        weight=weight,
        total=force.sum(dim=1, dtype=torch.float64),
        squares=torch.linalg.vector_norm(force, dim=1, dtype=torch.float64).square(),
    )
