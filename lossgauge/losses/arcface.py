"""ArcFace: softmax over class directions, with an angle added to the true class.

Deng et al. 2019. A term is a sample: the cross entropy of s·cos θ_j, with cos(θ_y + m) for its own class.
If θ_y > π − m, the sum would exceed π and cos would rise again, so cos θ_y − m·sin m is used instead, as in
the authors' code.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.losses.base import Near, Outcome, forces
from lossgauge.losses.proxies import ProxyLoss, against_classes
from lossgauge.losses.settings import SearchRange, above_zero, setting, zero_or_more
from lossgauge.sphere import on_sphere, through_normalization


def with_angular_margin(
    cosine: Float[Tensor, " batch"], *, margin: float
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The own-class cosine after the margin (radians), and its slope at `cosine`.

    cos is clamped before the square root, at both ends, so the slope is finite at ±1 and not 0 in between.
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


def angle(name: str, value: Any) -> float:
    """`value` as an angle in radians."""
    if zero_or_more(name, value) > math.pi:
        raise InputError(f"the {name} of ArcFace must be an angle in radians, 0 … π, got {value}")
    return float(value)


class ArcFace(ProxyLoss):
    """ArcFace; it normalises embeddings and class rows, as its definition says."""

    group = "paper"
    aliases = ("additive_angular_margin", "aam_softmax")
    near = (
        Near(
            "softmax",
            "normalized_softmax",
            "norm_softmax",
            differs="with margin: 0 it is the normalised softmax",
        ),
        Near(
            "proxy_nca++",
            differs="with margin: 0 and scale: 18 it is ProxyNCA++ at a temperature of 1/9",
        ),
        Near("sphereface", differs="its margin is added to the angle, and does not multiply it"),
    )

    margin: float = setting(default=0.5, check=angle, search=SearchRange(0.05, 1.0))
    scale: float = setting(default=64.0, check=above_zero, search=SearchRange(4.0, 128.0, log=True))

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
