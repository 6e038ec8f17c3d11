"""The loop: batch → evaluation → backward → Step → update. Loss, data and hooks come as arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lossgauge.errors import CacheError, RunError
from lossgauge.types import Evaluation, Step

EMBED_ROWS = 1024
"""Rows that go through the head at a time when a whole set is embedded: few enough to stay in a cache."""


class LinearHead(nn.Module):
    """One linear layer, then L2 normalisation: features to the unit sphere."""

    def __init__(self, width: int, embedding_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, embedding_size)

    def forward(self, features: Float[Tensor, "batch _"]) -> Float[Tensor, "batch _"]:
        return cast(Tensor, _OntoSphere.apply(self.linear(features)))


class _OntoSphere(torch.autograd.Function):
    """`F.normalize` of rows, in five passes over them forward and backward instead of a dozen."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=1e-12)
        unit: Tensor = rows / norms
        ctx.save_for_backward(unit, norms)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, norms = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, unit)[:, None]
        return torch.addcmul(gradient, unit, along, value=-1).div_(norms)


@dataclass
class Training:
    """A run in progress: all that a checkpoint has to hold."""

    head: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Epochs done."""
    step: int = 0


def start_training(
    *,
    width: int,
    embedding_size: int,
    learning_rate: float,
    seed: int,
    make_loss: Callable[[], nn.Module],
) -> Training:
    """A fresh run. The head depends on `seed` alone, so all losses of a seed start from the same one.

    The optimiser (Adam) holds the loss's own parameters beside the head's: ArcFace's rows and CCL's
    centers are trained too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = LinearHead(width, embedding_size)
        torch.manual_seed(seed)
        loss = make_loss()
    optimizer = torch.optim.Adam(
        [*head.parameters(), *loss.parameters()], lr=learning_rate, fused=True
    )
    return Training(head, loss, optimizer)


def train_epoch(
    training: Training,
    features: Float[Tensor, "rows width"],
    labels: Int[Tensor, " rows"],
    batches: Iterable[Int[Tensor, " batch"]],
    *,
    on_step: Callable[[Step], None],
) -> None:
    """One pass over `batches` of row numbers; `on_step` sees each step after backward, before the update."""
    head_parameters = tuple(training.head.parameters())
    loss_parameters = tuple(training.loss.parameters())
    for rows in batches:
        embeddings = training.head(features.index_select(0, rows))
        embeddings.retain_grad()
        evaluation = evaluate(training.loss, embeddings, labels[rows])
        if not evaluation.value.isfinite():
            raise RunError(
                f"the loss is {evaluation.value.item()} in epoch {training.epoch + 1}, "
                f"step {training.step}; try a lower learning_rate or a higher temperature"
            )
        for parameter in (*head_parameters, *loss_parameters):
            parameter.grad = None
        evaluation.value.backward()
        on_step(
            Step(
                number=training.step,
                epoch=training.epoch + 1,
                evaluation=evaluation,
                embeddings=embeddings,
                head_parameters=head_parameters,
                loss_parameters=loss_parameters,
            )
        )
        training.optimizer.step()
        training.step += 1
    training.epoch += 1


def evaluate(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> Evaluation:
    """`loss.evaluate` where it has one, else the value of a black box and nothing invented beside it."""
    own: Callable[[Tensor, Tensor], Evaluation] | None = getattr(loss, "evaluate", None)
    return own(embeddings, labels) if own else Evaluation(value=loss(embeddings, labels))


@torch.no_grad()
def embed(
    head: nn.Module, features: Float[Tensor, "rows _"], rows: Int[Tensor, " some"]
) -> Float[Tensor, "some _"]:
    """Embeddings of the given rows, without a graph: gathered into one small buffer, block after block."""
    buffer = features.new_empty(min(EMBED_ROWS, len(rows)), features.shape[1])
    blocks = []
    for block in rows.split(EMBED_ROWS):
        torch.index_select(features, 0, block, out=buffer[: len(block)])
        blocks.append(head(buffer[: len(block)]))
    return torch.cat(blocks)


def save_checkpoint(training: Training, folder: Path) -> None:
    """Write the run's state into an existing folder; the caller publishes the folder."""
    save_file(dict(_tensors(training)), folder / "state.safetensors")
    progress = {"epoch": training.epoch, "step": training.step}
    (folder / "progress.json").write_text(json.dumps(progress))


def load_checkpoint(training: Training, folder: Path) -> None:
    """Put the state of `folder` into a run made by `start_training` with the same settings.

    The run then goes on to the same numbers, bit for bit on one machine with one number of threads.
    """
    try:
        saved = load_file(folder / "state.safetensors")
        progress = json.loads((folder / "progress.json").read_text())
        # Adam makes its state at the first step: give it the right shapes, then overwrite.
        for index, parameter in enumerate(_parameters(training)):
            if f"optimizer.{index}.step" not in saved:
                continue  # it never had a gradient
            training.optimizer.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        with torch.no_grad():
            for name, tensor in _tensors(training):
                tensor.copy_(saved[name])
        training.epoch, training.step = progress["epoch"], progress["step"]
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CacheError(
            f"the checkpoint in {folder} cannot be read ({error}); delete it and the run starts anew"
        ) from error


def _parameters(training: Training) -> list[nn.Parameter]:
    return [p for group in training.optimizer.param_groups for p in group["params"]]


def _tensors(training: Training) -> Iterator[tuple[str, Tensor]]:
    yield from (("head." + name, t) for name, t in training.head.state_dict().items())
    yield from (("loss." + name, t) for name, t in training.loss.state_dict().items())
    for index, parameter in enumerate(_parameters(training)):
        for name, tensor in training.optimizer.state.get(parameter, {}).items():
            yield f"optimizer.{index}.{name}", tensor
