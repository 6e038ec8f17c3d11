"""A loss against one learnable row a class: what ArcFace's weights and CCL's centers share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lossgauge.errors import InputError
from lossgauge.losses.base import Loss


class ProxyLoss(Loss):
    """Abstract: holds `proxies`, classes × width, an ordinary parameter; only its direction counts.

    Labels are row numbers of it: 0 … class_count − 1. Drawn from N(0, 1/width), so rows start near the
    unit sphere, where one optimiser step turns a proxy about as far as it would turn an embedding.
    """

    def __init__(
        self,
        *,
        class_count: int,
        embedding_size: int,
        reduction: str = "mean",
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(reduction=reduction, tolerance=tolerance)
        if class_count < 1 or embedding_size < 1:
            raise InputError(
                f"class_count and embedding_size must be at least 1, got {class_count} and {embedding_size}"
            )
        self.proxies = nn.Parameter(torch.randn(class_count, embedding_size) * embedding_size**-0.5)

    def check_fit(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> None:
        """InputError unless the batch fits the proxies in width and in its labels."""
        class_count, width = self.proxies.shape
        if embeddings.shape[1] != width:
            raise InputError(
                f"this loss was made for embedding_size={width}, got embeddings of width {embeddings.shape[1]}"
            )
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= class_count:
            row = int(((labels < 0) | (labels >= class_count)).nonzero()[0])
            raise InputError(
                f"labels must lie in 0 … {class_count - 1} (class_count={class_count}), "
                f"got {int(labels[row])} in row {row}; number the classes from 0"
            )


def on_sphere(
    rows: Float[Tensor, "rows width"],
) -> tuple[Float[Tensor, "rows width"], Float[Tensor, "rows 1"]]:
    """Rows divided by their norms, and the norms; a zero row stays zero."""
    norms = rows.norm(dim=1, keepdim=True).clamp_(min=1e-12)
    return rows / norms, norms


def through_normalization(
    gradient: Float[Tensor, "rows width"],
    unit: Float[Tensor, "rows width"],
    norms: Float[Tensor, "rows 1"],
) -> Float[Tensor, "rows width"]:
    """A gradient at unit rows, carried back to the rows they came from: its tangent part over the norm."""
    return (gradient - (gradient * unit).sum(dim=1, keepdim=True) * unit) / norms


def one_hot(labels: Int[Tensor, " batch"], class_count: int) -> Tensor:
    """Batch × classes, True at each sample's own class."""
    return F.one_hot(labels, class_count).bool()
