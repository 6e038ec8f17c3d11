"""What the probe keeps of one update: tensors on their device, which become numbers later, for many updates together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.types import Evaluation


class Arrival(NamedTuple):
    """The gradient that arrived at the embeddings of a micro-batch, still multiplied by the factor of its loss."""

    gradient: Float[Tensor, "batch width"] | None
    """None once the update is complete: only numbers for each row are kept."""
    numbers: Float[Tensor, "3 batch"]
    """For each row the norm of the gradient, that of its part across the embedding, which would rotate it, and that of the embedding."""


@dataclass
class Part:
    """The embeddings of one call of `probe.embeddings`."""

    size: int
    embeddings: Float[Tensor, "batch width"] | None
    """Without a graph; None once the update is complete."""
    labels: Int[Tensor, " batch"] | None
    calls: list[Call] = field(default_factory=list)
    """The calls of losses that use these embeddings."""
    arrival: Arrival | None = None

    def let_go(self) -> None:
        """Keep only numbers for each row."""
        self.embeddings = None
        if self.arrival is not None:
            self.arrival = self.arrival._replace(gradient=None)


@dataclass
class Call:
    """One call of a loss."""

    loss: int
    """Its number in `probe.losses`."""
    value: Float[Tensor, ""]
    size: int
    """Rows of the embeddings that it uses, on all ranks. It does not name them: each of those names its calls."""
    evaluation: Evaluation | None = None
    gradient_multiple: int = 1
    """The gradient at the embeddings is this many times factor × ∂value/∂embeddings: see `Gathered.gradient_multiple`."""
    labels: Int[Tensor, " batch"] | None = None
    """What the loss was called with as labels, where they are those of one part, row by row."""
    factor: Float[Tensor, ""] | None = None
    """The gradient that arrived at the value: the scale of a GradScaler × 1 / accumulated micro-batches × a weight."""


class OfOptimizer(NamedTuple):
    """The gradients of the parameters of one optimiser at one update, still scaled by `factors`."""

    factors: Sequence[tuple[int, Tensor]]
    """The number of each loss that was called since the last update of this optimiser, and its factor."""
    head_norms: Float[Tensor, " parts"] | None
    """The norm of the gradient of each parameter."""
    loss_norms: Float[Tensor, " parts"] | None
    """Of the parameters of the losses."""
    clipped_head_norms: Float[Tensor, " parts"] | None
    clipped_loss_norms: Float[Tensor, " parts"] | None
    unscaled_by: Float[Tensor, ""] | None
    """What the clipped norms have been divided by already; None where no scaler is known."""
    found_inf: Float[Tensor, ""] | None
    """Above 0 where a fused optimiser skips the update."""


class Update(NamedTuple):
    """All that was seen for one update of the parameters."""

    step: int
    epoch: int
    parts: Sequence[Part]
    calls: Sequence[Call]
    optimizers: Sequence[OfOptimizer]
    skipped: bool
    """Whether the gradients were cleared without an update."""
