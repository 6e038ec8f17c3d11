"""The parts of a run before its first step: rows, head, loss, optimiser and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lossgauge.data.labelled_rows import labelled_rows
from lossgauge.data.pair_splits import validation_queries
from lossgauge.data.samplers import (
    dirichlet_batches,
    drawn_batches,
    kmeans_cells,
    m_per_class_batches,
    positions_along_strata,
    random_batches,
    stratified_batches,
)
from lossgauge.data.splits import validation_slice
from lossgauge.errors import InputError
from lossgauge.heads import Normalized, make_head
from lossgauge.losses.registry import drawn_terms, loss_maker
from lossgauge.plan.loss import LossPlan
from lossgauge.study.run.pair_batches import (
    given_negatives,
    masks,
    mined_negatives,
    pair_batches,
    right_similarities,
)
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import Run
from lossgauge.training import RowsOfPairs, Training, scheduled, start_training
from lossgauge.types import FeatureSet

KMEANS_CELLS = 64
"""Strata of `stratified_kmeans`: our choice."""

PairBatches = Callable[[int], list[RowsOfPairs]]
"""The same for queries and documents."""

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
    pair_batches: PairBatches
    """Of queries and documents; of classes `batches`. The other one is empty."""
    documents: nn.Module
    """What embeds documents; the head if there are none."""


def set_up(run: Run, features: FeatureSet, device: str = "cpu") -> Setup:
    """All parts of a run. Raises InputError or DataError if the loss, the batches or the slice cannot be created."""
    config = run.config
    rows = as_measured(features, config)
    check_memory(config, rows)
    training = start_run(config, run.loss, rows, device)
    batches: Batches = _none
    pair_batches: PairBatches = _none
    if rows.pairs is None:
        batches = batches_of(config, rows)
    elif config.is_trained:
        pair_batches = pair_batches_of(config, rows)
    class_numbers = torch.searchsorted(_classes(rows), rows.labels.contiguous()).to(device)
    on_device = rows._replace(features=rows.features.to(device))
    documents = document_head(config, training.head)
    return Setup(on_device, class_numbers, training, batches, pair_batches, documents)


def _none(epoch: int) -> list[Any]:
    return []


def as_measured(features: FeatureSet, config: RunConfig) -> FeatureSet:
    """The rows for training and for measuring: the training rows that keep their label, without a validation slice if the config asks
    for one."""
    if config.labels is not None:
        drawn = labelled_rows(
            features.labels.numpy(), features.train.numpy(), seed=config.seed, **config.labels
        )
        features = features._replace(train=features.train.new_tensor(drawn))
    if config.validation_share is None:
        return features
    labels, train = features.labels.numpy(), features.train.numpy()
    if features.pairs is not None:
        parts = validation_queries(labels, train, share=config.validation_share)
    else:
        parts = validation_slice(
            labels,
            train,
            features.test.numpy(),
            share=config.validation_share,
            groups=None if features.groups is None else features.groups.numpy(),
        )
    rest, held_out = (features.train.new_tensor(part) for part in parts)
    if config.measured_on == "validation":
        return features._replace(train=rest, test=held_out)
    return features._replace(train=rest, validation=held_out)


def start_run(
    config: RunConfig, loss: LossPlan, features: FeatureSet, device: str = "cpu"
) -> Training:
    """The head, the loss and the optimiser of a run before its first step."""
    width = features.features.shape[1]

    def new_head() -> nn.Module:
        return head_of(config, width)

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
        make_head=new_head,
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
        memory_size=config.memory or 0,
        device=device,
    )


def head_of(config: RunConfig, width: int) -> nn.Module:
    """A head of a run, before training."""
    return make_head(
        config.head,
        width,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        rank=config.rank,
    )


def document_head(config: RunConfig, head: nn.Module) -> nn.Module:
    """What embeds documents: the head itself, or the normalised features if only queries are trained."""
    return Normalized() if config.sides == "query" else head


def pair_batches_of(config: RunConfig, features: FeatureSet) -> PairBatches:
    """The batches of queries and documents of each epoch. Raises InputError if they cannot be drawn."""
    pairs = features.pairs
    assert pairs is not None
    size = config.batch_size or 0
    settings: dict[str, Any] = {}
    if isinstance(config.negatives, dict):
        mined = config.negatives
        ranks = {"from_rank": mined["from_rank"], "to_rank": mined["to_rank"]}
        settings = {
            "candidates": mined_negatives(features, features.train, **ranks),
            "per_query": mined["per_query"],
            "right_similarity": right_similarities(features),
            "max_similarity": mined["max_similarity"],
        }
    elif config.negatives == "given":
        settings = {"candidates": given_negatives(pairs, features.train)}

    def batches(epoch: int) -> list[RowsOfPairs]:
        drawn = pair_batches(
            pairs, features.train, batch_size=size, seed=config.seed, epoch=epoch, **settings
        )
        return [RowsOfPairs(*batch, *masks(pairs, batch)) for batch in drawn]

    return batches


def batches_of(config: RunConfig, features: FeatureSet) -> Batches:
    """The batches of each epoch. Raises InputError if the sampler of the config cannot draw them."""
    rows, labels = features.train, features.labels[features.train]
    settings: dict[str, Any] = {"batch_size": config.batch_size, "seed": config.seed}
    if config.sampler == "m_per_class":
        settings["samples_per_class"] = config.samples_per_class
        settings["small_classes"] = config.small_classes
        return lambda epoch: m_per_class_batches(rows, labels, epoch=epoch, **settings)
    if config.sampler == "dirichlet":
        settings["alpha"] = config.alpha
        return lambda epoch: dirichlet_batches(rows, labels, epoch=epoch, **settings)
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


def check_memory(config: RunConfig, features: FeatureSet) -> None:
    """InputError if the memory of a run would be larger than its training side."""
    rows = len(features.train)
    if config.memory is not None and config.memory > rows:
        raise InputError(
            f"a memory of {config.memory:,} rows is larger than the training side, which has {rows:,} here; give at most {rows:,}"
        )


def _classes(features: FeatureSet) -> Int[Tensor, " classes"]:
    """The classes of the training side, ascending."""
    classes: Tensor = features.labels[features.train].unique()
    return classes
