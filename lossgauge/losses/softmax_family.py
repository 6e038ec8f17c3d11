"""The part that InfoNCE, N-pair, ArcFace and CCL share: one scalar v per positive (the last two use class rows).

v = log Σ_negatives e^{s/τ} − s_positive/τ. A term's value is softplus(v) = −log softmax of the positive
among itself and the negatives, and its weight W = sigmoid(v) is the share of a full-strength update.
Written with v instead of a softmax, the value stays exact when it is tiny, and the gradient when τ is tiny.
"""

from __future__ import annotations

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
