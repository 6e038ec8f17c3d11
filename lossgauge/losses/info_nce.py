"""InfoNCE with labels (supervised NT-Xent): every positive against all negatives.

van den Oord et al. 2018; Chen et al. 2020. A term is an ordered positive pair (i, p) of value
−log[e^{s_ip/τ} / (e^{s_ip/τ} + Σ_{n ∈ N(i)} e^{s_in/τ})]: the other positives of i are *not* in the
denominator, which is what parts it from SCL.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Outcome, SimilarityLoss, Terms, positive_setting
from lossgauge.losses.compiled import KernelSpec, swept_outcome
from lossgauge.losses.softmax_family import softplus_terms


class InfoNCE(SimilarityLoss):
    """InfoNCE over dot products of the embeddings as given: normalise them for cosines."""

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
        return softplus_terms(
            similarity, positive, negative, temperature=self.temperature, tolerance=self.tolerance
        )

    def swept(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome | None:
        sweep = KernelSpec(
            "softplus_rows",
            (self.temperature, self.tolerance),
            distances=False,
            counts=lambda positives, negatives: positives,
        )
        return swept_outcome(sweep, embeddings, labels)
