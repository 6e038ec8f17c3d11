"""Losses whose gradient is defined by a rule and is not the derivative of their value, such as a stopped gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor


class Surrogate(ABC):
    """Abstract: a loss whose value does not tell how far training is, so the decay of the value is not defined.

    Differences of the value cannot check the gradient; the loss states it a second time, and `check_loss` compares the two.
    """

    surrogate: ClassVar[str]
    """Why the gradient is not the derivative of the value, as the end of a sentence."""

    @abstractmethod
    def stated_gradient(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """The gradient of the loss at the embeddings by its definition, not by the code of the loss."""


def why_surrogate(loss: Any) -> str:
    """The reason that a loss or its class gives; empty for a loss whose gradient is the derivative of its value."""
    reason = getattr(loss, "surrogate", "")
    return reason if isinstance(reason, str) else ""
