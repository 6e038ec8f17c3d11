"""A loss with several learnable centers for each class: the part that sub-center ArcFace and SoftTriple share.

The cosines of a sample with the K centers of a class are pooled to one similarity with the class; the rest is a softmax over classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lossgauge.losses.base import Outcome, effective_share, forces
from lossgauge.losses.class_terms import compiled_negative_terms, negative_terms
from lossgauge.losses.proxies import ProxyLoss
from lossgauge.sphere import on_sphere, through_normalization


class Pooled(NamedTuple):
    """The similarity of each sample with each class."""

    similarity: Float[Tensor, "classes batch"]
    slope: Float[Tensor, "classes centers batch"]
    """∂similarity/∂cosine of each center."""


class CenterLoss(ProxyLoss):
    """Abstract: `proxies` has `center_count` rows for each class, class after class; it normalises them and the embeddings.

    Labels are 0 … class_count − 1. Memory grows as batch × classes × centers.
    """

    @property
    @abstractmethod
    def center_count(self) -> int:
        """Centers of a class."""

    @abstractmethod
    def pooled(self, cosine: Float[Tensor, "classes centers batch"]) -> Pooled:
        """The similarity with each class."""

    @abstractmethod
    def with_margin(
        self, own: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """The similarity with the own class after the margin, and its slope."""

    scale: float

    def prepare(self) -> None:
        count = self.class_count * self.center_count
        proxies = torch.randn(count, self.embedding_size) * self.embedding_size**-0.5
        self.proxies = nn.Parameter(proxies)

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        self.check_fit(embeddings, labels)
        unit, norms = on_sphere(embeddings)
        directions, lengths = on_sphere(self.proxies.to(unit.dtype))
        # samples are the last dimension: a pool over few centers there would not be vectorized
        cosine = directions @ unit.T
        pooled, slope = self.pooled(cosine.view(self.class_count, self.center_count, len(unit)))
        similarity = pooled.T.contiguous()
        own = labels[:, None]
        target, own_slope = self.with_margin(similarity.gather(1, own)[:, 0])
        settings = {"scale": self.scale, "tolerance": self.tolerance}
        terms = compiled_negative_terms(similarity, labels, target, **settings)
        if terms is None:
            terms = negative_terms(similarity, labels, target, **settings)
        force = similarity  # that of the negatives, in place; 0 at the own class
        force.scatter_(1, own, (terms.weight * own_slope * -self.scale)[:, None])
        gradient = slope.mul_(force.T[:, None]).flatten(0, 1)
        centers = torch.arange(self.center_count, device=labels.device) + own * self.center_count
        pull = torch.nn.functional.embedding_bag(
            centers, directions, mode="sum", per_sample_weights=gradient.T.gather(1, centers)
        )
        whole = gradient.T @ directions
        at_directions = gradient @ unit
        both = torch.stack((pull, whole - pull))
        return Outcome(
            value=terms.value,
            counts=torch.ones_like(labels),
            active=terms.active,
            weight=terms.weight,
            forces=forces(*through_normalization(both, unit, norms)),
            skipped_anchors=0,
            effective_share=effective_share(gradient, pairs=gradient.numel()),
            parameter_gradients=(through_normalization(at_directions, directions, lengths),),
        )
