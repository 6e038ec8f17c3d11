"""A loss with one learnable row for each class: the part that the weights of ArcFace and the centers of CCL share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lossgauge.errors import InputError
from lossgauge.losses.base import Loss, share_of
from lossgauge.losses.class_terms import (
    NegativeTerms,
    compiled_negative_terms,
    negative_terms,
)
from lossgauge.losses.settings import count, setting


class ProxyLoss(Loss):
    """Abstract: has the parameter `proxies`, classes × width; only the direction of its rows matters.

    Labels are row numbers of `proxies`: 0 … class_count − 1. Initial values come from N(0, 1/width), so rows start near
    the unit sphere, where one optimiser step rotates a proxy about as far as it would rotate an embedding.
    """

    class_count: int = setting(check=count, from_data=True)
    embedding_size: int = setting(check=count, from_data=True)

    def prepare(self) -> None:
        proxies = torch.randn(self.class_count, self.embedding_size) * self.embedding_size**-0.5
        self.proxies = nn.Parameter(proxies)

    def check_fit(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> None:
        """InputError unless the device, the width and the labels of the batch fit the proxies."""
        if embeddings.device != self.proxies.device:
            raise InputError(
                f"this loss has its proxies on {self.proxies.device}, got embeddings on {embeddings.device}; "
                f"move it with .to({str(embeddings.device)!r})"
            )
        class_count, width = self.class_count, self.proxies.shape[1]
        if embeddings.shape[1] != width:
            raise InputError(
                f"this loss was created with embedding_size={width}, got embeddings of width {embeddings.shape[1]}"
            )
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < 0 or highest >= class_count:
            row = int(((labels < 0) | (labels >= class_count)).nonzero()[0])
            raise InputError(
                f"labels must be in 0 … {class_count - 1} (class_count={class_count}), "
                f"got {int(labels[row])} in row {row}; number the classes from 0"
            )


class AgainstClasses(NamedTuple):
    """Gradients of the sum of all term values, at the samples and at the class rows."""

    terms: NegativeTerms
    pull: Float[Tensor, "batch width"]
    """∂/∂samples from the own class …"""
    push: Float[Tensor, "batch width"]
    """… and from all others."""
    at_directions: Float[Tensor, "classes width"]
    effective_share: float


def against_classes(
    samples: Float[Tensor, "batch width"],
    labels: Int[Tensor, " batch"],
    directions: Float[Tensor, "classes width"],
    *,
    with_margin: Callable[[Tensor], tuple[Tensor, Tensor]],
    scale: float,
    tolerance: float,
) -> AgainstClasses:
    """Softmax terms over class rows; `with_margin` gives the target from the own cosine, and its slope.

    Three products of batch × classes × width; one batch × classes matrix is stored.
    """
    cosine = samples @ directions.T
    target, slope = with_margin(cosine.gather(1, labels[:, None])[:, 0])
    settings = {"scale": scale, "tolerance": tolerance}
    terms = compiled_negative_terms(cosine, labels, target, **settings)
    if terms is None:
        terms = negative_terms(cosine, labels, target, **settings)
    repulsion = cosine  # in place
    attraction = (terms.weight * slope * -scale)[:, None]
    own_force = attraction[:, 0].double()
    at_directions = repulsion.T @ samples
    at_directions.index_add_(0, labels, attraction * samples)
    return AgainstClasses(
        terms=terms,
        pull=attraction * directions[labels],
        push=repulsion @ directions,
        at_directions=at_directions,
        effective_share=share_of(
            float((terms.total + own_force.abs()).sum()),
            float((terms.squares + own_force.square()).sum()),
            pairs=repulsion.numel(),
        ),
    )
