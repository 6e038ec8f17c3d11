"""Decoupled contrastive loss: every positive against all other samples, without the positive itself in the denominator.

Yeh et al. 2022, arXiv 2110.06848, with labels. A term is an ordered positive pair (i, p) of value
log Σ_{a ∈ A(i), a≠p} e^{s_ia/τ} − s_ip/τ: the other positives of i are among the rest, as if their labels were not known. With one positive
for each anchor it is NSCL; the difference of both is what the unknown labels cost. W = 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting


def leave_one_out(logits: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """For each entry, the log-sum-exp of the other entries of its row; −inf if they are all −inf."""
    lowest = torch.finfo(logits.dtype).min / 4
    top, place = logits.max(dim=1, keepdim=True)
    top = top.clamp_(min=lowest)  # finite in an empty row: −inf − (−inf) is NaN
    shares = (logits - top).exp_()
    # any entry but the largest is at most half of the sum, so no digits are lost
    others = shares.sum(dim=1, keepdim=True).sub(shares).log_().add_(top)
    # without the largest one all digits could be lost, so its others are added up on their own
    without_top = logits.scatter(1, place, -torch.inf).logsumexp(dim=1, keepdim=True)
    return others.scatter_(1, place, without_top)


def dcl_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
) -> Terms:
    """Terms over (row, positive) pairs; none if the row has no other sample. W = 1, so every term is active."""
    top = similarity.masked_fill(~(positive | negative), -torch.inf).amax(dim=1, keepdim=True)
    # only differences in a row count: a large similarity would take the digits of the logarithms of sums
    logits = (similarity - top.where(top > -torch.inf, 0)) / temperature
    of_negatives = logits.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
    of_positives = leave_one_out(logits.masked_fill(~positive, -torch.inf))
    rest = torch.logaddexp(of_positives, of_negatives)
    valid = positive & (rest > -torch.inf)
    counts = valid.sum(dim=1)
    # the force at an entry is Σ_p e^{s/τ − rest_p} over the terms that have it among the rest
    inverse = torch.where(valid, -rest, -torch.inf)
    at_positives = (logits + leave_one_out(inverse)).exp_().masked_fill_(~positive, 0)
    at_negatives = (logits + inverse.logsumexp(dim=1, keepdim=True)).masked_fill_(
        ~negative, -torch.inf
    )
    force = at_positives.add_(at_negatives.exp_())
    return Terms(
        value=torch.where(valid, rest - logits, 0).sum(dim=1),
        counts=counts,
        active=counts,
        weight=counts.to(logits.dtype),
        gradient=force.sub_(valid.to(logits.dtype)).div_(temperature),
    )


class DCL(PairLoss):
    """Decoupled contrastive loss over dot products of the embeddings; normalise them first for cosines."""

    group = "related"
    aliases = ("decoupled_contrastive",)

    matrix = DOT_PRODUCTS
    temperature: float = setting(
        default=0.1, check=above_zero, search=SearchRange(0.01, 1.0, log=True)
    )

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return dcl_terms(matrix, positive, negative, temperature=self.temperature)

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.dcl import decoupled_rows

        return KernelSpec(
            decoupled_rows,
            (self.temperature, self.tolerance),
            counts=lambda positives, negatives: positives * (positives + negatives > 1),
        )
