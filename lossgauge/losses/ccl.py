"""Center Contrastive Loss: a softmax over class centers with a margin, and a pull to the own center.

Cai et al. 2023, arXiv 2308.00458. A term is a sample of value
−log[e^{s(c_y·x − m)} / (e^{s(c_y·x − m)} + Σ_{j≠y} e^{s c_j·x})] + λ‖x − c_y‖². The paper's s, m and λ are
not public: 32, 0.2 and 1 are our choice. Without the center term it is CosFace.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.losses.base import Near, Outcome, forces
from lossgauge.losses.proxies import ProxyLoss, against_classes
from lossgauge.losses.settings import SearchRange, above_zero, setting, zero_or_more
from lossgauge.sphere import on_sphere, through_normalization


class CCL(ProxyLoss):
    """Center contrastive loss; it normalises its centers, which are trained by gradient, but not the embeddings."""

    group = "paper"
    aliases = ("center_contrastive",)
    near = (
        Near(
            "cosface",
            "am_softmax",
            "additive_margin_softmax",
            "large_margin_cosine",
            "lmcl",
            differs="with center_weight: 0 it is CosFace, for normalised embeddings (whose usual settings are "
            "margin: 0.35, scale: 64)",
        ),
        Near(
            "center",
            differs="beside the pull to the own center it has a softmax over all centers, and it learns them by gradient",
        ),
    )

    margin: float = setting(
        default=0.2, check=zero_or_more, search=SearchRange(0.02, 1.0, log=True)
    )
    scale: float = setting(default=32.0, check=above_zero, search=SearchRange(4.0, 128.0, log=True))
    center_weight: float = setting(
        default=1.0, check=zero_or_more, search=SearchRange(0.01, 10.0, log=True)
    )

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        self.check_fit(embeddings, labels)
        centers, lengths = on_sphere(self.proxies.to(embeddings.dtype))
        terms, pull, push, at_centers, share = against_classes(
            embeddings,
            labels,
            centers,
            with_margin=lambda own: (own - self.margin, torch.ones_like(own)),
            scale=self.scale,
            tolerance=self.tolerance,
        )
        offset = embeddings - centers[labels]
        value = terms.value + self.center_weight * offset.square().sum(dim=1)
        to_center = 2 * self.center_weight * offset
        at_centers.index_add_(0, labels, to_center, alpha=-1)
        return Outcome(
            value=value,
            counts=torch.ones_like(labels),
            active=(value > self.tolerance).long(),
            weight=terms.weight,
            forces=forces(pull + to_center, push),
            skipped_anchors=0,
            effective_share=share,
            parameter_gradients=(through_normalization(at_centers, centers, lengths),),
        )
