"""A plain function as a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class FunctionLoss(nn.Module):
    """A function `(embeddings, labels) -> scalar` as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, embeddings: Any, labels: Any) -> Any:
        return self.function(embeddings, labels)
