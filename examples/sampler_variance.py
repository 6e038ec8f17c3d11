"""What a sampler is worth: how far a batch's loss and gradient lie from their mean, at one head that stands still.

python examples/sampler_variance.py        the table of docs/samplers.md, in about two minutes; fewer batches than 500 as an argument
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import lossgauge as lg
from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.data.features import centered, features
from lossgauge.data.samplers import (
    kmeans_cells,
    m_per_class_batches,
    positions_along_strata,
    random_batches,
    stratified_batches,
)
from lossgauge.errors import DataError
from lossgauge.heads import LinearHead
from lossgauge.training import scheduled, start_training, train_epoch
from lossgauge.types import FeatureSet

BATCH, PER_CLASS, CELLS = 120, 24, 60


def main(count: int = 500) -> None:
    data = found_features()
    rows, labels = data.train, data.labels
    print(f"{data.dataset}, {data.backbone}, {len(rows)} training rows, batches of {BATCH}")
    choices = samplers(data.features[rows], rows, labels[rows], count)
    for loss in ("info_nce", "triplet", "contrastive"):
        for epochs in (0, 1):
            head = trained(data, loss, epochs)
            measured = {
                name: statistics(head, loss, data, batches) for name, batches in choices.items()
            }
            print(f"\n{loss}, {'initial head' if not epochs else 'head after one epoch'}")
            print("| sampler | loss | its spread | gradient spread | shift of the mean |")
            print("|---|---|---|---|---|")
            for name, found in measured.items():
                print(row(name, *found, *measured["random"]))


def found_features() -> FeatureSet:
    """FashionMNIST where its features are in the cache, else the digits."""

    def refuse(done: int, total: int) -> None:
        raise DataError("its features are not in the cache")

    try:
        images, backbone = load_dataset("fashion-mnist"), load_backbone("efficientnet-lite0")
        return centered(features(images, backbone, progress=refuse))
    except DataError as error:
        print(f"no fashion-mnist: {error}")
        return centered(features(load_dataset("digits"), load_backbone("pixels")))


def samplers(space: Tensor, rows: Tensor, labels: Tensor, count: int) -> dict[str, list[Tensor]]:
    """`count` batches by each sampler."""
    cells = kmeans_cells(space, CELLS, 0)
    choices: dict[str, Callable[..., list[Tensor]]] = {
        "random": partial(random_batches, rows),
        f"M-per-class, {BATCH // PER_CLASS} classes × {PER_CLASS}": partial(
            m_per_class_batches, rows, labels, samples_per_class=PER_CLASS
        ),
    }
    for name, strata in (("classes", labels), (f"{CELLS} k-means cells", cells)):
        positions = positions_along_strata(space, strata)
        choices[f"strata: {name}"] = partial(stratified_batches, rows, strata)
        choices[f"strata: {name}, antithetic"] = partial(
            stratified_batches, rows, strata, positions=positions
        )
    return {name: enough(sampler, count) for name, sampler in choices.items()}


def enough(sampler: Callable[..., list[Tensor]], count: int) -> list[Tensor]:
    batches: list[Tensor] = []
    while len(batches) < count:
        batches += sampler(batch_size=BATCH, seed=0, epoch=len(batches))
    return batches[:count]


def trained(data: FeatureSet, loss: str, epochs: int) -> torch.nn.Module:
    training = start_training(
        seed=0,
        make_head=lambda: LinearHead(data.features.shape[1], 128),
        schedule=scheduled("constant", learning_rate=1e-3, epochs=max(epochs, 1)),
        make_loss=partial(lg.load_loss, loss),
    )
    for epoch in range(epochs):
        batches = random_batches(data.train, batch_size=BATCH, seed=1, epoch=epoch)
        train_epoch(training, data.features, data.labels, batches, on_step=lambda step: None)
    return training.head


def statistics(
    head: torch.nn.Module, loss: str, data: FeatureSet, batches: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of each batch, and the gradient of each at the head's weights."""
    measure, weights = lg.load_loss(loss), next(head.parameters())
    values, gradients = torch.empty(len(batches)), torch.empty(len(batches), weights.numel())
    for place, batch in enumerate(batches):
        value = measure(head(data.features[batch]), data.labels[batch])
        (gradient,) = torch.autograd.grad(value, weights)
        values[place], gradients[place] = value.detach(), gradient.flatten()
    return values, gradients


def row(name: str, values: Tensor, gradients: Tensor, _: Tensor, reference: Tensor) -> str:
    """A line of the table. The shift is less what chance alone makes of it."""
    mean, wanted = gradients.mean(0), reference.mean(0)
    spread = (gradients - mean).square().sum(1).mean()
    noise = (spread + (reference - wanted).square().sum(1).mean()) / len(gradients)
    shift = ((mean - wanted).square().sum() - noise).clamp(min=0).sqrt() / wanted.norm()
    return (
        f"| {name} | {values.mean():.4f} | {values.std() / values.mean():.1%} "
        f"| {spread.sqrt() / mean.norm():.3f} | {shift:.0%} |"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
