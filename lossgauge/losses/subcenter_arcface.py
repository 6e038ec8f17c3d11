"""Sub-center ArcFace: ArcFace with several centers for each class, of which the nearest counts.

Deng et al. 2020. A term is a sample: the cross entropy of s·cos θ_j as in `arcface.py`, where cos θ_j is the largest cosine with the
centers of class j. A wrong label or a rare view can have a center of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lossgauge.losses.arcface import angle, with_angular_margin
from lossgauge.losses.centers import CenterLoss, Pooled
from lossgauge.losses.settings import SearchRange, above_zero, count, setting


class SubcenterArcFace(CenterLoss):
    """Sub-center ArcFace; where two centers of a class are equally near, the first one gets the gradient."""

    group = "other"

    margin: float = setting(default=0.5, check=angle, search=SearchRange(0.05, 1.0))
    scale: float = setting(default=64.0, check=above_zero, search=SearchRange(4.0, 128.0, log=True))
    sub_centers: int = setting(default=3, check=count)

    @property
    def center_count(self) -> int:
        return self.sub_centers

    def pooled(self, cosine: Float[Tensor, "classes centers batch"]) -> Pooled:
        similarity, nearest = cosine.max(dim=1, keepdim=True)
        slope = torch.zeros_like(cosine).scatter_(1, nearest, 1.0)
        return Pooled(similarity[:, 0], slope)

    def with_margin(
        self, own: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        return with_angular_margin(own, margin=self.margin)
