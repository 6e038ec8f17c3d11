"""The part that InfoNCE and its relatives share: one scalar v per positive (ArcFace and CCL use class rows).

v = log Σ_negatives e^{s/τ} − s_positive/τ. InfoNCE's value is softplus(v) = −log softmax of the positive
among itself and the negatives, and its weight W = sigmoid(v) is the share of a full-strength update; NSCL's value is v itself, with W = 1.
Written with v instead of a softmax, the value stays exact when it is tiny, and the gradient when τ is tiny.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Terms


class SoftplusPairs(NamedTuple):
    """The terms of each positive pair, 0 at all other pairs, and the gradient of their sum."""

    value: Float[Tensor, "rows columns"]
    weight: Float[Tensor, "rows columns"]
    gradient: Float[Tensor, "rows columns"]


def softplus_pairs(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
) -> SoftplusPairs:
    """Value and weight of each (row, positive) pair; the other positives of a row are not in its denominator.

    A row without negatives has terms of value and weight 0.
    """
    logits = similarity / temperature
    negatives, log_sum_negatives = log_sum(logits, negative)
    v = log_sum_negatives - logits
    # not torch's softplus, which ignores e^{−v} above a threshold of 20
    value = torch.logaddexp(v, v.new_zeros(())).mul_(positive)
    weight = v.sigmoid_().mul_(positive)
    share = negatives.sub_(log_sum_negatives).exp_()
    gradient = share.mul_(weight.sum(dim=1, keepdim=True)).sub_(weight).div_(temperature)
    return SoftplusPairs(value, weight, gradient)


def log_sum(
    logits: Float[Tensor, "rows columns"], chosen: Bool[Tensor, "rows columns"]
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """`logits` with −inf where not chosen, and the log-sum-exp of each row; a finite, very low number if nothing is chosen."""
    # A finite number: with −inf, the caller would compute −inf − (−inf), which is NaN.
    lowest = torch.finfo(logits.dtype).min / 4
    masked = logits.masked_fill(~chosen, -torch.inf)
    return masked, masked.logsumexp(dim=1, keepdim=True).clamp_(min=lowest)


def softplus_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
    tolerance: float,
) -> Terms:
    """Terms over (row, positive) pairs: see `softplus_pairs`."""
    value, weight, gradient = softplus_pairs(
        similarity, positive, negative, temperature=temperature
    )
    return Terms(
        value=value.sum(dim=1),
        counts=positive.sum(dim=1),
        active=(value > tolerance).sum(dim=1),
        weight=weight.sum(dim=1),
        gradient=gradient,
    )


class SoftSum(NamedTuple):
    """log(1 + Σ e^x) over the chosen entries of each row."""

    value: Float[Tensor, " rows"]
    weight: Float[Tensor, " rows"]
    """Σ/(1 + Σ), in [0, 1]: the sum of `shares`."""
    shares: Float[Tensor, "rows columns"]
    """e^x/(1 + Σ), the derivative of `value` at each x; 0 at entries that are not chosen."""


def log_one_plus_sum(
    exponents: Float[Tensor, "rows columns"], chosen: Bool[Tensor, "rows columns"]
) -> SoftSum:
    """The soft sums of rows; all 0 for a row without a chosen entry. Exact where Σ is tiny and where it overflows."""
    entries, total = log_sum(exponents, chosen)
    weight = total.sigmoid()
    return SoftSum(
        value=torch.logaddexp(total, total.new_zeros(()))[:, 0],
        weight=weight[:, 0],
        shares=entries.sub_(total).exp_().mul_(weight),
    )
