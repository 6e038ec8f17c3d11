"""The part that InfoNCE, N-pair, ArcFace and CCL share: one scalar v per positive (the last two use class rows).

v = log Σ_negatives e^{s/τ} − s_positive/τ. A term's value is softplus(v) = −log softmax of the positive
among itself and the negatives, and its weight W = sigmoid(v) is the share of a full-strength update.
Written with v instead of a softmax, the value stays exact when it is tiny, and the gradient when τ is tiny.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
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
    # A finite number for "no negatives": with −inf, the line below would compute −inf − (−inf), which is NaN.
    lowest = torch.finfo(logits.dtype).min / 4
    negatives = logits.masked_fill(~negative, -torch.inf)
    log_sum_negatives = negatives.logsumexp(dim=1, keepdim=True).clamp_(min=lowest)
    v = log_sum_negatives - logits
    # not torch's softplus, which ignores e^{−v} above a threshold of 20
    value = torch.logaddexp(v, v.new_zeros(())).mul_(positive)
    weight = v.sigmoid_().mul_(positive)
    total_weight = weight.sum(dim=1)
    share = negatives.sub_(log_sum_negatives).exp_()
    return Terms(
        value=value.sum(dim=1),
        counts=positive.sum(dim=1),
        active=(value > tolerance).sum(dim=1),
        weight=total_weight,
        gradient=share.mul_(total_weight[:, None]).sub_(weight).div_(temperature),
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
    entries, log_sum = log_sum_of(exponents, chosen)
    weight = log_sum.sigmoid()
    return SoftSum(
        value=torch.logaddexp(log_sum, log_sum.new_zeros(()))[:, 0],
        weight=weight[:, 0],
        shares=entries.sub_(log_sum).exp_().mul_(weight),
    )


def log_sum_of(
    exponents: Float[Tensor, "rows columns"], chosen: Bool[Tensor, "rows columns"]
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """The chosen exponents, −inf elsewhere, and log Σ e^x of each row: finite, and very low for a row without an entry."""
    entries = exponents.masked_fill(~chosen, -torch.inf)
    lowest = torch.finfo(entries.dtype).min / 4
    return entries, entries.logsumexp(dim=1, keepdim=True).clamp_(min=lowest)
