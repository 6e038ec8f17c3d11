"""Supervised contrastive loss (SupCon, L_out).

Khosla et al. 2020, eq. 2. A term is an anchor with at least one positive, of value
−(1/|P|) Σ_p log(e^{s_ip/τ} / Σ_{a≠i} e^{s_ia/τ}): all others are in the denominator, positives too, so
the value is at least log|P|. Without the factor τ/τ_base of the authors' code.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Outcome, SimilarityLoss, Terms, positive_setting
from lossgauge.losses.compiled import KernelSpec, swept_outcome


def scl_terms(
    similarity: Float[Tensor, "batch batch"],
    positive: Bool[Tensor, "batch batch"],
    negative: Bool[Tensor, "batch batch"],
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
    # A lone sample has no others, and −inf − (−inf) is NaN
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


class SCL(SimilarityLoss):
    """Supervised contrastive loss over dot products of the embeddings as given: normalise them for cosines."""

    def __init__(
        self, *, temperature: float = 0.1, reduction: str = "mean", tolerance: float = 1e-6
    ) -> None:
        super().__init__(reduction=reduction, tolerance=tolerance)
        self.temperature = positive_setting("temperature", temperature)

    def terms(
        self,
        similarity: Float[Tensor, "batch batch"],
        positive: Bool[Tensor, "batch batch"],
        negative: Bool[Tensor, "batch batch"],
    ) -> Terms:
        return scl_terms(
            similarity, positive, negative, temperature=self.temperature, tolerance=self.tolerance
        )

    def swept(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome | None:
        sweep = KernelSpec(
            "scl_rows",
            (self.temperature, self.tolerance),
            distances=False,
            counts=lambda positives, negatives: (positives > 0).long(),
        )
        return swept_outcome(sweep, embeddings, labels)
