"""The training loop: batch → evaluation → backward → Step → update; and the state that a stopped run needs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lossgauge.errors import InputError, RunError
from lossgauge.memory import Memory, drift
from lossgauge.sphere import normalized
from lossgauge.types import Evaluation, Step
from lossgauge.user_folders import keep_torch_private

EMBED_ROWS = 1024
"""Rows that go through the head at a time when a whole dataset is embedded: few enough to fit in the CPU cache."""


_Batch = TypeVar("_Batch")


@dataclass
class Training:
    """A run in progress: the state that a checkpoint must store, and the schedule, which has no state."""

    head: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float]
    """Learning rate at a time in epochs, such as 2.5 for the middle of the third epoch."""
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    memory_size: int = 0
    """Rows of earlier batches that a pair loss sees as further columns."""
    memory: Memory | None = None
    """Those rows; None before the first batch."""


def start_training(
    *,
    seed: int,
    make_head: Callable[[], nn.Module],
    make_loss: Callable[[], nn.Module],
    optimizer: str = "adam",
    schedule: Callable[[float], float],
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    memory_size: int = 0,
    device: str = "cpu",
) -> Training:
    """A new run. The head depends only on `seed`, so all losses of a seed start from the same head.

    The optimiser (`adam`, `adamw`, or `sgd` with `momentum`) trains the parameters of the head and of the loss:
    the rows of ArcFace and the centers of CCL are trained too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = make_head().to(device)
        # not seeded again: otherwise the rows of the classes would get the same random numbers as the head
        loss = make_loss().to(device)
    keep_torch_private()
    parameters = [*head.parameters(), *loss.parameters()]
    settings: dict[str, Any] = {"lr": schedule(0.0), "weight_decay": weight_decay, "fused": True}
    chosen: torch.optim.Optimizer
    if optimizer == "sgd":
        chosen = torch.optim.SGD(parameters, momentum=momentum, **settings)
    else:
        chosen = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer](
            parameters, **settings
        )
    return Training(head, loss, chosen, schedule, memory_size=memory_size)


def scheduled(
    schedule: str, *, learning_rate: float, epochs: int, warmup_epochs: int = 0
) -> Callable[[float], float]:
    """Learning rate at a time in epochs: `constant`, or `cosine`, which falls to 0 at the end.

    With both schedules, it rises linearly over the first `warmup_epochs`. Loshchilov and Hutter 2017
    for the cosine: https://arxiv.org/abs/1608.03983
    """

    def rate(time: float) -> float:
        if time < warmup_epochs:
            return learning_rate * time / warmup_epochs
        if schedule == "constant":
            return learning_rate
        done = (time - warmup_epochs) / (epochs - warmup_epochs)
        return learning_rate * (1 + math.cos(math.pi * done)) / 2

    return rate


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of torch, numpy and Python within the block; restore them after it."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def train_epoch(
    training: Training,
    features: Float[Tensor, "rows width"],
    labels: Int[Tensor, " rows"],
    batches: Sequence[Int[Tensor, "..."]],
    *,
    on_step: Callable[[Step], None],
) -> None:
    """One pass over `batches` of row numbers; `on_step` sees each step after backward, before the update.

    A batch of two dimensions has one column for each drawn term: see `drawn_batches`.
    """

    def forward(rows: Tensor) -> tuple[Tensor, Callable[[], Evaluation]]:
        embeddings = training.head(features.index_select(0, rows.flatten()))
        if training.memory_size:
            return embeddings, lambda: _with_memory(training, embeddings, labels[rows], rows)
        return embeddings, lambda: evaluate(training.loss, embeddings, labels[rows])

    def first_row(rows: Tensor) -> Tensor:
        embedded: Tensor = training.head(features.index_select(0, rows.flatten()[:1]))
        return embedded

    _train(training, batches, forward, first_row, on_step)


def _with_memory(
    training: Training, embeddings: Tensor, labels: Tensor, rows: Tensor
) -> Evaluation:
    """The evaluation with the memory of earlier batches; the memory then holds this batch too."""
    loss: Any = training.loss
    memory = training.memory
    if memory is None:
        memory = Memory.without_rows(embeddings)
    evaluation: Evaluation = loss.evaluate_with_memory(embeddings, labels, rows, memory)
    training.memory = memory.after(embeddings, labels, rows, size=training.memory_size)
    return evaluation


def memory_drift(training: Training, features: Float[Tensor, "rows width"]) -> float | None:
    """How far the stored rows are from what the present head gives: see `drift`. None without stored rows."""
    if training.memory is None:
        return None
    return drift(training.memory.embeddings, embed(training.head, features, training.memory.rows))


class RowsOfPairs(NamedTuple):
    """One batch of queries and documents: their rows, and which pairs are positive and negative."""

    queries: Int[Tensor, " queries"]
    documents: Int[Tensor, " documents"]
    positive: Bool[Tensor, "queries documents"]
    negative: Bool[Tensor, "queries documents"]


def train_pairs_epoch(
    training: Training,
    features: Float[Tensor, "rows width"],
    batches: Sequence[RowsOfPairs],
    *,
    documents: nn.Module,
    on_step: Callable[[Step], None],
) -> None:
    """One pass over `batches` of queries and documents, with a loss that has `evaluate_pairs`.

    `documents` embeds the documents: the head itself, or the normalised features if only the query side is trained. A step's
    embeddings are the queries, then the documents. A loss with `needs_guide` also gets the cosines of the features.
    """
    loss: Any = training.loss
    with_guide = bool(getattr(loss, "needs_guide", False))

    def forward(batch: RowsOfPairs) -> tuple[Tensor, Callable[[], Evaluation]]:
        asked, others = features[batch.queries], features[batch.documents]
        # one pass through the head if it is that of both sides
        if documents is training.head:
            embeddings = training.head(torch.cat([asked, others]))
        else:
            embeddings = torch.cat([training.head(asked), documents(others)])
        guide = {}
        if with_guide:
            guide["guide"] = normalized(asked) @ normalized(others).T
        count = len(asked)

        def evaluation() -> Evaluation:
            found: Evaluation = loss.evaluate_pairs(
                embeddings[:count],
                embeddings[count:],
                batch.positive.to(embeddings.device),
                batch.negative.to(embeddings.device),
                **guide,
            )
            return found

        return embeddings, evaluation

    def first_row(batch: RowsOfPairs) -> Tensor:
        embedded: Tensor = training.head(features[batch.queries[:1]])
        return embedded

    _train(training, batches, forward, first_row, on_step)


def _train(
    training: Training,
    batches: Sequence[_Batch],
    forward: Callable[[_Batch], tuple[Tensor, Callable[[], Evaluation]]],
    first_row: Callable[[_Batch], Tensor],
    on_step: Callable[[Step], None],
) -> None:
    """One epoch. `forward` gives the embeddings of a batch and what evaluates the loss on them."""
    head_parameters = tuple(training.head.parameters())
    loss_parameters = tuple(training.loss.parameters())
    for number, batch in enumerate(batches):
        # the rate in the middle of the step: a warm-up begins above 0, and a cosine ends above 0
        rate = training.schedule(training.epoch + (number + 0.5) / len(batches))
        for group in training.optimizer.param_groups:
            group["lr"] = rate
        embeddings, evaluation_of = forward(batch)
        embeddings.retain_grad()
        try:
            evaluation = evaluation_of()
        except InputError as error:
            if embeddings.isfinite().all():
                raise
            raise _diverged(training, "the embeddings are not finite", rate) from error
        if not evaluation.value.isfinite():
            raise _diverged(training, f"the loss is {evaluation.value.item()}", rate)
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
    # no loss is computed after the last update, so its result is checked here
    with torch.no_grad():
        after = [first_row(batch) for batch in batches[-1:]]
    if not all(numbers.isfinite().all() for numbers in (*after, *loss_parameters)):
        raise _diverged(training, "its last update gave numbers that are not finite", rate)
    training.epoch += 1


def _diverged(training: Training, evidence: str, rate: float) -> RunError:
    return RunError(
        f"the run diverged in epoch {training.epoch + 1}, step {training.step}, at learning rate {rate:g}: {evidence}; "
        "try a lower learning_rate"
    )


def evaluate(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> Evaluation:
    """`loss.evaluate` if the loss has it, else only the value of the loss, with all other fields None.

    Labels of two dimensions are those of drawn terms, for `loss.evaluate_drawn`.
    """
    name = "evaluate" if labels.ndim == 1 else "evaluate_drawn"
    own: Callable[[Tensor, Tensor], Evaluation] | None = getattr(loss, name, None)
    return own(embeddings, labels) if own else Evaluation(value=loss(embeddings, labels))


@torch.no_grad()
def embed(
    head: nn.Module, features: Float[Tensor, "rows _"], rows: Int[Tensor, " some"]
) -> Float[Tensor, "some _"]:
    """Embeddings of the given rows, without a graph, computed block by block with one small buffer.

    Raises RunError if they are not finite.
    """
    buffer = features.new_empty(min(EMBED_ROWS, len(rows)), features.shape[1])
    blocks = []
    for block in rows.split(EMBED_ROWS):
        torch.index_select(features, 0, block.to(features.device), out=buffer[: len(block)])
        blocks.append(head(buffer[: len(block)]))
    embeddings = torch.cat(blocks)
    if not embeddings.sum().isfinite():  # the rows are unit vectors, so checking the sum is enough
        raise RunError(
            "the run diverged: the embeddings of its head are not finite; use a lower learning_rate"
        )
    return embeddings


def training_state(training: Training) -> dict[str, Tensor]:
    """Copies of all tensors that the next step depends on: head, loss and optimiser; store `epoch` and `step` too."""
    # copies: a loss may have one tensor under two names, or a transposed tensor
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in _tensors(training)
    }


def restore_training(
    training: Training, state: Mapping[str, Tensor], *, epoch: int, step: int
) -> None:
    """Restore a `training_state` in a run from `start_training` with the same settings.

    The run then continues with the same numbers, bit for bit on one machine with the same number of threads. Raises
    ValueError if the state belongs to another head, loss or optimiser.
    """
    # an optimiser creates its state at the first step: add entries with names and shapes, then overwrite them
    for index, parameter in enumerate(_parameters(training)):
        prefix = f"optimizer.{index}."
        own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        if own:  # a parameter without state never had a gradient
            training.optimizer.state[parameter] = {
                name: tensor.to(parameter.device, copy=True) for name, tensor in own.items()
            }
    _restore_buffers(training.loss, state)
    if training.memory_size:
        training.memory = _restored_memory(training, state)
    present = dict(_tensors(training))
    if odd := sorted(state.keys() ^ present.keys()):
        raise ValueError(f"{odd[0]!r} exists only before or after the stop")
    with torch.no_grad():
        for name, tensor in present.items():
            if tensor.shape != state[name].shape:  # copy_ would broadcast one row to many
                raise ValueError(f"{name!r} has another shape before and after the stop")
            tensor.copy_(state[name])
    training.epoch, training.step = epoch, step


def _restored_memory(training: Training, state: Mapping[str, Tensor]) -> Memory | None:
    stored = [state[name] for name in map("memory.{}".format, Memory._fields) if name in state]
    device = next(training.head.parameters()).device
    return Memory(*(of.to(device, copy=True) for of in stored)) if stored else None


def _restore_buffers(loss: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Create the buffers that a loss created or resized after its start, such as a growing queue or a late center."""
    fixed = {name for name, _ in loss.named_parameters()}
    now = dict(loss.named_buffers())
    device = next((t.device for t in loss.parameters()), torch.device("cpu"))
    for key, tensor in state.items():
        name = key.removeprefix("loss.")
        if name == key or name in fixed:
            continue
        before = now.get(name)
        if before is None or (before.shape, before.dtype) != (tensor.shape, tensor.dtype):
            place, _, last = name.rpartition(".")
            where = device if before is None else before.device
            loss.get_submodule(place).register_buffer(last, tensor.to(where, copy=True))


def _parameters(training: Training) -> list[nn.Parameter]:
    return [p for group in training.optimizer.param_groups for p in group["params"]]


def _tensors(training: Training) -> Iterator[tuple[str, Tensor]]:
    yield from (("head." + name, t) for name, t in training.head.state_dict().items())
    yield from (("loss." + name, t) for name, t in training.loss.named_parameters())
    # all buffers: the next step may also depend on a buffer that is not persistent
    yield from (("loss." + name, t) for name, t in training.loss.named_buffers())
    if training.memory is not None:
        yield from (("memory." + name, t) for name, t in training.memory._asdict().items())
    for index, parameter in enumerate(_parameters(training)):
        for name, tensor in training.optimizer.state.get(parameter, {}).items():
            if tensor is None:
                continue  # SGD without momentum
            yield f"optimizer.{index}.{name}", tensor
