"""SoftTriple: a softmax over classes with several centers each, of which the nearest count most.

Qian et al. 2019, without the regularizer that merges centers. A term is a sample of value −log[e^{λ(S_y − δ)} / (e^{λ(S_y − δ)} + Σ_{j≠y} e^{λS_j})],
where S_j = Σ_k q_k c_jk·x is a mean of the cosines with the centers of class j, and q is the softmax of c_jk·x/γ.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lossgauge.losses.centers import CenterLoss, Pooled
from lossgauge.losses.settings import SearchRange, above_zero, count, setting, zero_or_more


class SoftTriple(CenterLoss):
    """SoftTriple; `scale` is the paper's λ (`la` in its code), `temperature` its γ and `margin` its δ."""

    group = "other"

    margin: float = setting(
        default=0.01, check=zero_or_more, search=SearchRange(0.001, 0.5, log=True)
    )
    scale: float = setting(default=20.0, check=above_zero, search=SearchRange(4.0, 128.0, log=True))
    temperature: float = setting(
        default=0.1, check=above_zero, search=SearchRange(0.01, 1.0, log=True)
    )
    centers_per_class: int = setting(default=10, check=count)

    @property
    def center_count(self) -> int:
        return self.centers_per_class

    def pooled(self, cosine: Float[Tensor, "classes centers batch"]) -> Pooled:
        # the largest is subtracted first: a cosine divided by a tiny temperature overflows
        share = (cosine - cosine.amax(dim=1, keepdim=True)).div_(self.temperature).softmax(dim=1)
        similarity = (share * cosine).sum(dim=1)
        # ∂Σ_k q_k c_k/∂c_k = q_k (1 + (c_k − S)/γ)
        slope = (cosine - similarity[:, None]).div_(self.temperature).add_(1).mul_(share)
        return Pooled(similarity, slope)

    def with_margin(
        self, own: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        return own - self.margin, torch.ones_like(own)
