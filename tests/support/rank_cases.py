"""What each rank does in the tests of `lossgauge.distributed`. Children import this file, so it imports little."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from lossgauge import distributed
from lossgauge.errors import InputError
from lossgauge.losses.registry import load_loss
from lossgauge.types import Evaluation

WIDTH, CLASSES = 6, 4
OWN_ROWS = ("arcface", "ccl")
"""Losses with one row for each class."""


def batch_of(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Features and labels of all ranks together, the same in every process."""
    generator = torch.Generator().manual_seed(sum(sizes))
    features = torch.randn(sum(sizes), 8, dtype=torch.float64, generator=generator)
    return features, torch.randint(0, CLASSES, (sum(sizes),), generator=generator)


def part_of(rank: int, sizes: tuple[int, ...], whole: Tensor) -> Tensor:
    """The rows of one rank."""
    return whole.split(sizes)[rank]


class Trained(nn.Module):
    """A head and a loss, float64 and the same in every process: features and labels in, loss out."""

    def __init__(self, name: str, *, over_all_ranks: bool, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Linear(8, WIDTH)
        sizes = {"class_count": CLASSES, "embedding_size": WIDTH} if name in OWN_ROWS else {}
        loss = load_loss(name, **sizes, **settings)
        self.loss = distributed.gathered(loss) if over_all_ranks else loss
        self.double()

    def embed(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(self.head(features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.embed(features), labels)


class OneStep(Trained):
    """`Trained`, and the gradients of its parameters after one backward."""

    def gradients(self, value: Tensor) -> list[Tensor]:
        value.backward()
        return [parameter.grad.clone() for parameter in self.parameters()]


def ddp_step(
    rank: int,
    name: str,
    sizes: tuple[int, ...],
    settings: dict[str, Any],
    over_all_ranks: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """The value and the gradients of a rank under DDP."""
    model = OneStep(name, over_all_ranks=over_all_ranks, **settings)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    from torch.nn.parallel import DistributedDataParallel

    parallel = DistributedDataParallel(model)  # it averages gradients as long as it exists
    value = parallel(features, labels)
    return value.detach(), model.gradients(value)


def fsdp_step(
    rank: int, name: str, sizes: tuple[int, ...], settings: dict[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """`ddp_step` over all ranks, with the model's parameters in shards (FSDP2)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = OneStep(name, over_all_ranks=True, **settings)
    fully_shard(model, mesh=init_device_mesh("cpu", (len(sizes),)))
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    value = model(features, labels)
    value.backward()
    return value.detach(), [parameter.grad.full_tensor() for parameter in model.parameters()]


def compiled_step(
    rank: int, name: str, sizes: tuple[int, ...], settings: dict[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """Value, and gradients averaged by hand, of a compiled model."""
    model = OneStep(name, over_all_ranks=True, **settings)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    value = torch.compile(model, backend="eager")(features, labels)
    gradients = model.gradients(value)
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    return value.detach(), [gradient / len(sizes) for gradient in gradients]


def averaged_step(
    rank: int, name: str, sizes: tuple[int, ...], settings: dict[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """`ddp_step` over all ranks, with gradients averaged by hand and losses in plain torch: DDP and numba take long to import."""
    nothing = lambda *_, **__: None  # noqa: E731
    model = OneStep(name, over_all_ranks=True, **settings)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    with (
        patch("lossgauge.losses.proxies.compiled_negative_terms", nothing),
        patch("lossgauge.losses.pairs.compiled_outcome", nothing),
    ):
        value = model(features, labels)
    gradients = model.gradients(value)
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    return value.detach(), [gradient / len(sizes) for gradient in gradients]


def probed(rank: int, name: str, batches: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
    """The probe's row of one update of several micro-batches, with gradients averaged by hand and losses in plain torch."""
    from lossgauge.loop.probe import Probe

    model = OneStep(name, over_all_ranks=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(optimizer, loss=model.loss)
    with patch("lossgauge.losses.pairs.compiled_outcome", lambda *_, **__: None):
        for sizes in batches:
            features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
            rows = probe.embeddings(model.embed(features), labels)
            (model.loss(rows, labels) / len(batches)).backward()
    for parameter in model.parameters():
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= len(batches[0])
    optimizer.step()
    if rank == 0:
        assert probe.findings()  # without the other ranks
    (row,) = probe.rows
    return row


def evaluation(rank: int, name: str, sizes: tuple[int, ...]) -> Evaluation:
    """The evaluation of all ranks' batch, without a graph."""
    model = Trained(name, over_all_ranks=True)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    with torch.no_grad():
        return model.loss.evaluate(model.embed(features), labels)


def own_evaluations_merged(rank: int, name: str, sizes: tuple[int, ...]) -> Evaluation:
    """The evaluations of the ranks' own batches, merged."""
    model = Trained(name, over_all_ranks=False)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    return distributed.merged_evaluation(model.loss.evaluate(model.embed(features), labels))


def measured(rank: int, ids: list[Tensor], embeddings: Tensor, labels: Tensor) -> Any:
    """Geometry of all ranks, and all their rows; each rank has the rows of its ids."""
    own = ids[rank]
    rows, numbers = embeddings[own], labels[own]
    geometry = distributed.geometry(rows, numbers, ids=own)
    return geometry, distributed.all_rows(rows, numbers, ids=own)


def measured_without_ids(
    rank: int, sizes: tuple[int, ...], embeddings: Tensor, labels: Tensor
) -> Any:
    """Geometry and all rows, in the order of ranks."""
    rows, numbers = part_of(rank, sizes, embeddings), part_of(rank, sizes, labels)
    return distributed.geometry(rows, numbers), distributed.all_rows(rows, numbers)


def refused(rank: int, fault: str) -> str:
    """The error of each rank where rank 1 does something wrong."""
    embeddings = torch.ones(3, WIDTH, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 0, 1])
    name = "triplet"
    if rank == 1:
        match fault:
            case "NaN":
                embeddings = embeddings * torch.nan
            case "labels":
                labels = labels[:2]
            case "width":
                embeddings = embeddings[:, :2]
            case "type":
                embeddings = embeddings.float()
            case "ids":
                labels = torch.tensor([0, 1, 1])
            case "no rows":
                embeddings = embeddings[:0]
    try:
        if fault == "ids":
            distributed.all_rows(embeddings, labels, ids=[0, 1, 2])
        elif fault == "geometry":
            distributed.geometry(embeddings * (1e200 if rank else 1), labels)
        elif fault == "parameters":
            torch.manual_seed(rank)
            loss = load_loss("arcface", class_count=CLASSES, embedding_size=WIDTH)
            distributed.gathered(loss)(embeddings, labels)
        else:
            distributed.gathered(load_loss(name))(embeddings, labels)
    except InputError as error:
        return str(error)
    return ""


def half_precision(rank: int, name: str, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Value and head gradient with bfloat16 embeddings."""
    model = OneStep(name, over_all_ranks=True)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))
    embeddings = model.embed(features).bfloat16()
    value = model.loss(embeddings, labels)
    return value.detach(), model.gradients(value)[0]


def function_loss(rank: int, sizes: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    """A plain function as the loss, with unequal factors on the ranks, averaged by hand."""
    model = OneStep("triplet", over_all_ranks=False)
    features, labels = (part_of(rank, sizes, whole) for whole in batch_of(sizes))

    def square(embeddings: Tensor, labels: Tensor) -> Tensor:
        return ((embeddings @ embeddings.T) ** 3)[labels[:, None] == labels].mean()

    value = distributed.gathered(square)(model.embed(features), labels) * (1 + rank)
    gradients = model.gradients(value)
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    return value.detach(), gradients
