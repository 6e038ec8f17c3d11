"""The heads that are trained on frozen features; their embeddings are on the unit sphere."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
