"""Multi-similarity loss: all positives of an anchor in one soft sum, and all its negatives in another.

Wang et al. 2019, eq. 11. A term is an anchor with a positive and a negative, of value
(1/α) log(1 + Σ_p e^{−α(s_ip − base)}) + (1/β) log(1 + Σ_n e^{β(s_in − base)}). The paper's mining of pairs is not part of the loss.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Terms
from lossgauge.losses.compiled import KernelSpec, anchors_with_both
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting, zero_or_more
from lossgauge.losses.softmax_family import log_one_plus_sum


def multi_similarity_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    alpha: float,
    beta: float,
    base: float,
    tolerance: float,
) -> Terms:
    """Terms over anchors. W is the mean of the two Σ/(1 + Σ): each is the force of its side, at most 1."""
    valid = positive.any(dim=1) & negative.any(dim=1)
    offset = similarity - base
    pull = log_one_plus_sum(offset * -alpha, positive & valid[:, None])
    push = log_one_plus_sum(offset.mul_(beta), negative & valid[:, None])
    value = pull.value / alpha + push.value / beta
    return Terms(
        value=value,
        counts=valid.long(),
        active=(value > tolerance).long(),
        weight=(pull.weight + push.weight) / 2,
        gradient=push.shares - pull.shares,
    )


class MultiSimilarity(PairLoss):
    """Multi-similarity loss over dot products of the embeddings; normalise them first for cosines."""

    group = "other"
    aliases = ("ms",)

    matrix = DOT_PRODUCTS
    alpha: float = setting(default=2.0, check=above_zero, search=SearchRange(0.5, 50.0, log=True))
    beta: float = setting(default=50.0, check=above_zero, search=SearchRange(10.0, 100.0, log=True))
    base: float = setting(default=0.5, check=zero_or_more, search=SearchRange(0.0, 1.0))

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return multi_similarity_terms(
            matrix,
            positive,
            negative,
            alpha=self.alpha,
            beta=self.beta,
            base=self.base,
            tolerance=self.tolerance,
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.multi_similarity import soft_sum_rows

        return KernelSpec(
            soft_sum_rows,
            (self.base, self.tolerance),
            counts=anchors_with_both,
            further=(self.alpha, self.beta),
        )
