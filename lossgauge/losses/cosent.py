"""CoSENT: every positive pair of the batch above every negative pair, also those of other queries.

Su 2022, the loss of sentence-transformers. The batch has one value, softplus(v) with
v = log Σ_negatives e^{scale·s} + log Σ_positives e^{−scale·s} = log Σ_{n, p} e^{scale·(s_n − s_p)}, over all pairs of the batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Near, Terms
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting


def cosent_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    scale: float,
    tolerance: float,
) -> Terms:
    """The one value of the batch is a term of each row that has a pair; their mean is that value. W = sigmoid(v)."""
    logits = similarity * scale
    valid = (positive | negative).any(dim=1) & positive.any() & negative.any()
    against = logits.masked_fill(~negative, -torch.inf)
    own = logits.neg().masked_fill_(~positive, -torch.inf)
    # a finite number for "none": −inf − (−inf) is NaN
    lowest = torch.finfo(logits.dtype).min / 4
    of_negatives = against.flatten().logsumexp(dim=0).clamp_(min=lowest)
    of_positives = own.flatten().logsumexp(dim=0).clamp_(min=lowest)
    v = of_negatives + of_positives
    value = torch.logaddexp(v, v.new_zeros(()))
    weight = v.sigmoid()
    force = against.sub_(of_negatives).exp_().sub_(own.sub_(of_positives).exp_())
    rows = valid.to(logits.dtype)
    return Terms(
        value=value * rows,
        counts=valid.long(),
        active=(value * rows > tolerance).long(),
        weight=weight * rows,
        gradient=force.mul_(weight * rows.sum() * scale),
    )


class CoSENT(PairLoss):
    """CoSENT over dot products; normalise the rows first for cosines. Over labels each pair counts in both orders."""

    group = "other"
    near = (Near("angle", differs="it compares cosines, and not angles in the complex plane"),)

    matrix = DOT_PRODUCTS
    scale: float = setting(default=20.0, check=above_zero, search=SearchRange(1.0, 100.0, log=True))

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return cosent_terms(matrix, positive, negative, scale=self.scale, tolerance=self.tolerance)
