"""Supervised contrastive loss (SupCon, L_out).

Khosla et al. 2020, eq. 2. A term is an anchor with at least one positive, of value
−(1/|P|) Σ_p log(e^{s_ip/τ} / Σ_{a≠i} e^{s_ia/τ}): all others are in the denominator, positives too, so
the value is at least log|P|. Without the factor τ/τ_base of the authors' code.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Near, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting


def scl_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
    tolerance: float,
) -> Terms:
    """Terms over anchors. W is the probability that the softmax gives to negatives: the anchor's whole push."""
    positives = positive.sum(dim=1)
    valid = positives > 0
    share = positive.to(similarity.dtype) / positives.clamp(min=1)[:, None]
    logits = similarity / temperature
    others = logits.masked_fill(~(positive | negative), -torch.inf)
    # a single sample has no other samples, and −inf − (−inf) is NaN
    total = others.logsumexp(dim=1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min / 4)
    # −Σ_p (s_ip/τ − total)/|P|, differences first: total and s/τ are large where τ is small
    value = (total - logits).mul_(share).sum(dim=1)
    probability = others.sub_(total).exp_().mul_(valid[:, None])
    return Terms(
        value=value,
        counts=valid.long(),
        active=(value > tolerance).long(),
        weight=(probability * negative).sum(dim=1),
        gradient=probability.sub_(share).div_(temperature),
    )


class SCL(PairLoss):
    """Supervised contrastive loss over dot products of the embeddings; normalise them first for cosines."""

    group = "paper"
    aliases = ("supcon", "supcon_out", "supervised_contrastive")
    near = (Near("supcon_in", differs="it averages over positives outside the logarithm (L_out)"),)

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
        return scl_terms(
            matrix, positive, negative, temperature=self.temperature, tolerance=self.tolerance
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.scl import scl_rows

        return KernelSpec(
            scl_rows,
            (self.temperature, self.tolerance),
            counts=lambda positives, negatives: (positives > 0).long(),
        )

    def floor(self, labels: Int[Tensor, " batch"]) -> float:
        """Mean over anchors of log(|P| + |N|e^{−2/τ}): s_ip − s_in ≤ 2 on the unit sphere."""
        _, group, sizes = labels.unique(return_inverse=True, return_counts=True)
        positives = (sizes[group] - 1).double()
        negatives = len(labels) - 1 - positives
        terms = (positives + negatives * math.exp(-2 / self.temperature)).log()[positives > 0]
        return float(terms.mean()) if len(terms) else 0.0
