"""The heads that are trained on frozen features; their embeddings are on the unit sphere."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lossgauge.errors import InputError
from lossgauge.sphere import normalized


class LinearHead(nn.Module):
    """One linear layer, then L2 normalisation: features to the unit sphere."""

    def __init__(self, width: int, embedding_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, embedding_size)

    def forward(self, features: Float[Tensor, "batch _"]) -> Float[Tensor, "batch _"]:
        return normalized(self.linear(features))


class MLPHead(nn.Module):
    """Two linear layers with a ReLU between them, then L2 normalisation."""

    def __init__(self, width: int, embedding_size: int, *, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden_size)
        self.linear = nn.Linear(hidden_size, embedding_size)

    def forward(self, features: Float[Tensor, "batch _"]) -> Float[Tensor, "batch _"]:
        return normalized(self.linear(torch.relu(self.hidden(features))))


class ResidualHead(nn.Module):
    """The normalised features plus an update of low rank: z = normalised(e + B·(A·e)), of the features' own width.

    B starts at 0, so the head starts as the normalised features, bit for bit. A starts like a linear layer. It has
    2 · width · rank parameters.
    """

    def __init__(self, width: int, *, rank: int) -> None:
        super().__init__()
        if not 1 <= rank <= width:
            raise InputError(
                f"the rank of a residual head must be in 1 … {width}, the width of the features, got {rank}"
            )
        self.down = nn.Parameter(torch.empty(rank, width))
        self.up = nn.Parameter(torch.zeros(width, rank))
        bound = 1 / math.sqrt(width)
        nn.init.uniform_(self.down, -bound, bound)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        update = torch.nn.functional.linear(
            torch.nn.functional.linear(features, self.down), self.up
        )
        return normalized(features + update)

    def as_linear(self) -> nn.Linear:
        """The same map before it is normalised as one layer, I + B·A, computed in float64; its bias is 0."""
        width = self.up.shape[0]
        layer = nn.Linear(width, width, dtype=self.up.dtype)
        with torch.no_grad():
            update = self.up.double() @ self.down.double()
            layer.weight.copy_(torch.eye(width, dtype=torch.float64) + update)
            layer.bias.zero_()
        return layer.requires_grad_(False)


class Normalized(nn.Module):
    """The features themselves, L2-normalised: the embeddings of a side that is not trained. It has no parameters."""

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        return normalized(features)


def make_head(
    kind: str, width: int, *, embedding_size: int, hidden_size: int | None, rank: int | None
) -> nn.Module:
    """A head by its name in a study file: `linear`, `mlp` or `residual`. Raises InputError for an invalid size."""
    if kind == "residual":
        return ResidualHead(width, rank=rank or 0)
    if kind == "mlp":
        return MLPHead(width, embedding_size, hidden_size=hidden_size or 0)
    return LinearHead(width, embedding_size)
