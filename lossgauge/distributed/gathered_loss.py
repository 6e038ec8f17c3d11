"""The loss of the batches of all ranks together, with its exact gradient under DistributedDataParallel.

A pair loss compares the samples of a batch, so the mean of the losses of parts is another loss than that of the whole. Here each rank
computes the whole loss over the rows of all ranks. Its gradient at a row is added up over the ranks: world size × ∂L/∂z. The model's
gradient from its own rows, averaged over ranks as DDP does, is then ∂L/∂parameters. The parameters of the loss itself have the whole
gradient on each rank already, and the average leaves it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossgauge.batch import ArrayLike
from lossgauge.distributed.batches import rank_batches
from lossgauge.distributed.ranks import Group, exchanged, rank_count
from lossgauge.errors import InputError
from lossgauge.types import Evaluation


def gathered(loss: Callable[..., Any], group: Group = None) -> Gathered:
    """`loss` over the rows of all ranks of `group`, in the order of ranks; without an initialised process group, over its own.

    The value is the same on every rank. Use it in a model under DDP or FSDP, which average gradients: then the gradient of each
    parameter is that of one process with the whole batch. Ranks may have batches of different sizes, and none at all. A loss with
    parameters (ArcFace, CCL) is in the DDP model, too, or its parameters are equal at the start. `loss` may be any function of
    embeddings and labels. Each rank needs the time and the memory of the whole batch.
    """
    return Gathered(loss, group)


class Gathered(nn.Module):
    """A loss over the rows of all ranks: see `gathered`."""

    def __init__(self, loss: Callable[..., Any], group: Group = None) -> None:
        super().__init__()
        self.loss = loss
        self.group = group
        self._compared = False

    @property
    def gradient_multiple(self) -> int:
        """The number of ranks: backward gives a rank's embeddings this many times ∂value/∂embeddings, as DDP divides later."""
        return rank_count(self.group)

    def evaluate(self, embeddings: ArrayLike, labels: ArrayLike) -> Evaluation:
        """The loss's own evaluation of the batch of all ranks, the same on every rank; see `Evaluation`.

        Raises InputError on every rank if the batch of one rank breaks a rule, or if the parameters of the loss differ between ranks.
        """
        if torch.compiler.is_compiling():
            # torch.compile cannot trace an exchange: it breaks its graph here, and this part runs without it
            return torch.compiler.disable(self._evaluate)(embeddings, labels)  # type: ignore[no-any-return]
        return self._evaluate(embeddings, labels)

    def _evaluate(self, embeddings: ArrayLike, labels: ArrayLike) -> Evaluation:
        if rank_count(self.group) > 1:
            if not self._compared:
                self._compare_parameters()
            embeddings, labels, _ = rank_batches(embeddings, labels, self.group)
        own: Callable[..., Evaluation] | None = getattr(self.loss, "evaluate", None)
        return own(embeddings, labels) if own else Evaluation(self.loss(embeddings, labels))

    def forward(self, embeddings: ArrayLike, labels: ArrayLike) -> Tensor:
        """`evaluate(embeddings, labels).value`: a differentiable scalar."""
        value: Tensor = self.evaluate(embeddings, labels).value
        return value

    def _compare_parameters(self) -> None:
        """InputError unless the parameters of the loss are equal on all ranks. Done once: equal gradients keep them equal."""
        sums = [float(parameter.detach().double().sum()).hex() for parameter in self.parameters()]
        of_ranks = exchanged(lambda: sums, self.group)
        for rank, others in enumerate(of_ranks):
            if others != of_ranks[0]:
                raise InputError(
                    f"the parameters of the loss must be equal on all ranks, but those of rank {rank} differ from rank 0; "
                    "put the loss into the DistributedDataParallel model, or set one seed before it is created"
                )
        self._compared = True
