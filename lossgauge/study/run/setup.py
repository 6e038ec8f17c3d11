"""The parts of a run before its first step: rows, head, loss, optimiser and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lossgauge.data.samplers import (
    drawn_batches,
    kmeans_cells,
    m_per_class_batches,
    positions_along_strata,
    random_batches,
    stratified_batches,
)
from lossgauge.data.splits import validation_slice
from lossgauge.heads import LinearHead, MLPHead
from lossgauge.losses.registry import drawn_terms, loss_maker
from lossgauge.plan.loss import LossPlan
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import Run
from lossgauge.training import Training, scheduled, start_training
from lossgauge.types import FeatureSet

KMEANS_CELLS = 64
"""Strata of `stratified_kmeans`: our choice."""

Batches = Callable[[int], list[Tensor]]
"""From the number of an epoch to its batches, as row numbers; in two dimensions if the sampler draws single terms."""


class Setup(NamedTuple):
    """A run before its first step."""

    features: FeatureSet
    """The rows for training and for measuring, on the device of the run."""
    class_numbers: Int[Tensor, " rows"]
    """The position of each label among the training classes, from 0, on the device of the run: some losses have a
    row of parameters for each class."""
    training: Training
    batches: Batches


def set_up(run: Run, features: FeatureSet, device: str = "cpu") -> Setup:
    """All parts of a run. Raises InputError or DataError if the loss, the batches or the slice cannot be created."""
    config = run.config
    rows = as_measured(features, config)
    training = start_run(config, run.loss, rows, device)
    batches = batches_of(config, rows)
    class_numbers = torch.searchsorted(_classes(rows), rows.labels.contiguous()).to(device)
    on_device = rows._replace(features=rows.features.to(device))
    return Setup(on_device, class_numbers, training, batches)


def as_measured(features: FeatureSet, config: RunConfig) -> FeatureSet:
    """The rows for training and for measuring; a validation slice is taken from the training side if the config asks for one."""
    if config.validation_share is None:
        return features
    rest, held_out = (
        features.train.new_tensor(part)
        for part in validation_slice(
            features.labels.numpy(),
            features.train.numpy(),
            features.test.numpy(),
            share=config.validation_share,
            groups=None if features.groups is None else features.groups.numpy(),
        )
    )
    if config.measured_on == "validation":
        return features._replace(train=rest, test=held_out)
    return features._replace(train=rest, validation=held_out)


def start_run(
    config: RunConfig, loss: LossPlan, features: FeatureSet, device: str = "cpu"
) -> Training:
    """The head, the loss and the optimiser of a run before its first step."""
    width = features.features.shape[1]

    def make_head() -> nn.Module:
        if config.hidden_size is not None:
            return MLPHead(width, config.embedding_size, hidden_size=config.hidden_size)
        return LinearHead(width, config.embedding_size)

    make_loss: Callable[[], Any] = nn.Module
    if config.is_trained:
        make_loss = loss_maker(
            loss.name,
            loss.fixed,
            class_count=len(_classes(features)),
            embedding_size=config.embedding_size,
        )
    return start_training(
        seed=config.seed,
        make_head=make_head,
        make_loss=make_loss,
        optimizer=config.optimizer or "adam",
        schedule=scheduled(
            config.schedule,
            learning_rate=config.learning_rate,
            epochs=config.epochs,
            warmup_epochs=config.warmup_epochs,
        ),
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        device=device,
    )


def batches_of(config: RunConfig, features: FeatureSet) -> Batches:
    """The batches of each epoch. Raises InputError if the sampler of the config cannot draw them."""
    rows, labels = features.train, features.labels[features.train]
    settings: dict[str, Any] = {"batch_size": config.batch_size, "seed": config.seed}
    if config.sampler == "m_per_class":
        settings["samples_per_class"] = config.samples_per_class
        settings["small_classes"] = config.small_classes
        return lambda epoch: m_per_class_batches(rows, labels, epoch=epoch, **settings)
    if config.sampler == "drawn":
        terms = drawn_terms(config.loss)
        return lambda epoch: drawn_batches(rows, labels, terms=terms, epoch=epoch, **settings)
    if config.sampler == "stratified":
        return lambda epoch: stratified_batches(rows, labels, epoch=epoch, **settings)
    if config.sampler == "stratified_kmeans":
        space = features.features[rows]
        cells = kmeans_cells(space, min(KMEANS_CELLS, len(rows)), config.seed)
        positions = positions_along_strata(space, cells)
        return lambda epoch: stratified_batches(
            rows, cells, positions=positions, epoch=epoch, **settings
        )
    return lambda epoch: random_batches(rows, epoch=epoch, **settings)


def _classes(features: FeatureSet) -> Int[Tensor, " classes"]:
    """The classes of the training side, ascending."""
    classes: Tensor = features.labels[features.train].unique()
    return classes
