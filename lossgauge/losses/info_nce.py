"""InfoNCE with labels (supervised NT-Xent): every positive against all negatives.

van den Oord et al. 2018; Chen et al. 2020. A term is an ordered positive pair (i, p) of value
−log[e^{s_ip/τ} / (e^{s_ip/τ} + Σ_{n ∈ N(i)} e^{s_in/τ})]: the other positives of i are *not* in the
denominator, unlike in SCL.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Near, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting
from lossgauge.losses.softmax_family import softplus_terms


class InfoNCE(PairLoss):
    """InfoNCE over dot products of the embeddings; normalise them first for cosines."""

    group = "paper"
    aliases = ("nt_xent", "supervised_nt_xent")
    near = (
        Near(
            "simclr", differs="with the two views of an image as one class it is SimCLR's NT-Xent"
        ),
        Near(
            "sincere",
            differs="it averages over all positive pairs, and not first over those of an anchor",
        ),
    )

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
        return softplus_terms(
            matrix, positive, negative, temperature=self.temperature, tolerance=self.tolerance
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.info_nce import softplus_rows

        return KernelSpec(
            softplus_rows,
            (self.temperature, self.tolerance),
            counts=lambda positives, negatives: positives,
        )
