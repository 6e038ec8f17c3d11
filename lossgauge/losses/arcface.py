"""ArcFace: softmax over class directions, with an angle added to the true class.

Deng et al. 2019. A term is a sample: the cross entropy of s·cos θ_j, with cos(θ_y + m) for its own class.
Where θ_y > π − m the sum would pass π and cos would rise again, so cos θ_y − m·sin m stands there, as in
the authors' code.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.losses.base import Outcome, forces, non_negative, positive_setting
from lossgauge.losses.proxies import ProxyLoss, against_classes
from lossgauge.sphere import on_sphere, through_normalization


def with_angular_margin(
    cosine: Float[Tensor, " batch"], *, margin: float
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The own-class cosine after the margin (radians), and its slope at `cosine`.

    cos is clamped before the root, at both signs, so the slope is finite at ±1 and alive in between.
    """
    edge = 1 - 4 * torch.finfo(cosine.dtype).eps
    inner = cosine.clamp(-edge, edge)
    sine = (1 - inner.square()).sqrt()
    beyond = cosine < -math.cos(margin)  # θ > π − m
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    slope = math.cos(margin) + math.sin(margin) * inner / sine
    return (
        torch.where(beyond, cosine - margin * math.sin(margin), shifted),
        torch.where(beyond, 1.0, slope),
    )


class ArcFace(ProxyLoss):
    """ArcFace; embeddings and class rows are both normalised here, as the loss's definition says."""

    def __init__(
        self,
        *,
        class_count: int,
        embedding_size: int,
        margin: float = 0.5,
        scale: float = 64.0,
        reduction: str = "mean",
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(
            class_count=class_count,
            embedding_size=embedding_size,
            reduction=reduction,
            tolerance=tolerance,
        )
        self.margin = non_negative("margin", margin)
        if self.margin > math.pi:
            raise InputError(f"the margin of ArcFace is an angle in radians, 0 … π, got {margin}")
        self.scale = positive_setting("scale", scale)

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        self.check_fit(embeddings, labels)
        unit, norms = on_sphere(embeddings)
        directions, lengths = on_sphere(self.proxies.to(unit.dtype))
        terms, pull, push, at_directions, share = against_classes(
            unit,
            labels,
            directions,
            with_margin=partial(with_angular_margin, margin=self.margin),
            scale=self.scale,
            tolerance=self.tolerance,
        )
        return Outcome(
            value=terms.value,
            counts=torch.ones_like(labels),
            active=terms.active,
            weight=terms.weight,
            forces=forces(*through_normalization(torch.stack((pull, push)), unit, norms)),
            skipped_anchors=0,
            effective_share=share,
            parameter_gradients=(through_normalization(at_directions, directions, lengths),),
        )
