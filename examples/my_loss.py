"""Your own loss: a black box is enough.

lossgauge check examples/my_loss.py:Pull
lossgauge study demo --set losses=triplet,examples/my_loss.py:Pull
"""

import torch
from torch import Tensor


class Pull(torch.nn.Module):
    """Pull positives together and push the mean of the others away."""

    def __init__(self, *, push: float = 1.0) -> None:
        super().__init__()
        self.push = push

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        similarity = embeddings @ embeddings.T
        same = labels[:, None] == labels
        pairs = same & ~torch.eye(len(labels), dtype=torch.bool)
        return self.push * _mean(similarity, ~same) - _mean(similarity, pairs)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
