"""Whether the settings of a study fit its data, before any run: what no run could do, and what a run would do silently."""

from __future__ import annotations

from collections.abc import Iterator

from lossgauge.errors import PlanError
from lossgauge.losses.registry import all_settings, our_name
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.study import Mined, Plan
from lossgauge.stats.number_format import counted
from lossgauge.study.run.pair_batches import given_negatives
from lossgauge.types import FeatureSet

UNLABELLED = "-1"

CENTERS = ("centers_per_class", "sub_centers")
"""Settings that give each class several centers."""


def check_fit(plan: Plan, features: FeatureSet) -> None:
    """PlanError for a setting that is too large for the features or the rows of a dataset."""
    name, width = features.dataset, features.features.shape[1]
    if plan.head == "residual" and plan.rank > width:
        raise PlanError(
            f"rank must be at most {width}, the width of the features of {name}, got {plan.rank}; set rank: {min(width, 32)}"
        )
    embedded = width if plan.head == "residual" else plan.embedding_size
    for loss in plan.losses:
        smallest = _setting(loss, "smallest") if our_name(loss.name) == "matryoshka" else None
        if smallest is not None and smallest > embedded:
            raise PlanError(
                f"{loss.title}: smallest must be at most the {embedded} numbers of an embedding of {name}, got {smallest}; set smallest: "
                f"{max(1, embedded // 8)}"
            )
        _check_centers(loss, features)
    if isinstance(plan.negatives, Mined) and features.pairs is not None:
        documents = len(features.pairs.corpus)
        if plan.negatives.from_rank >= documents:
            raise PlanError(
                f"negatives: from_rank must be below the {documents:,} documents of {name}, got {plan.negatives.from_rank}"
            )


def batch_notes(plan: Plan, features: FeatureSet, rows: int) -> Iterator[str]:
    """Batch sizes that are above the queries or rows that a run trains on."""
    noun = "query" if features.pairs is not None else "row"
    sizes = {
        loss.batch_size or plan.batch_size
        for loss in plan.losses
        if (loss.sampler or plan.sampler) == "random"
    }
    for size in sorted(sizes):
        if size > rows:
            yield (
                f"batch_size {size} is above the {counted(rows, f'training {noun}')}: each epoch is one step, with all of them in one batch"
            )


def fit_notes(plan: Plan, features: FeatureSet) -> Iterator[str]:
    """Other settings that have less effect than they say."""
    pairs = features.pairs
    if pairs is None:
        yield from _center_notes(plan, features)
        yield from _unlabelled_notes(features)
    elif (
        plan.negatives == "given"
        and "negatives" in plan.model_fields_set
        and given_negatives(pairs, features.train) is None
    ):
        yield (
            "negatives: given has no effect, because no training query has a hard negative in the data: a batch has only the documents "
            "of its other queries; add columns negative or negative_1 …, or mine them: negatives: {from_rank: 10, to_rank: 50}"
        )


def _check_centers(loss: LossPlan, features: FeatureSet) -> None:
    """PlanError if the plan asks for more centers of a class than any class has training rows."""
    asked = next((key for key in CENTERS if key in loss.settings), None)
    if asked is None or features.pairs is not None:
        return
    count, largest = _setting(loss, asked), max(_class_sizes(features))
    if count is not None and count > largest:
        raise PlanError(
            f"{loss.title}: {asked} must be at most {largest}, the training rows of the largest class of {features.dataset}, got {count}"
        )


def _center_notes(plan: Plan, features: FeatureSet) -> Iterator[str]:
    sizes = _class_sizes(features)
    for loss in plan.losses:
        count = next((n for key in CENTERS if (n := _setting(loss, key)) is not None), 0)
        if fewer := sum(size < count for size in sizes):
            yield (
                f"{loss.title} has {count} centers for each class, and {fewer:,} of {len(sizes):,} classes have fewer training rows"
            )


def _unlabelled_notes(features: FeatureSet) -> Iterator[str]:
    """A note about -1, by which other libraries mark rows without a label."""
    marked = [label for label, name in features.class_names.items() if name == UNLABELLED]
    rows = int(sum((features.labels == label).sum() for label in marked))
    if rows:
        yield (
            f"the label {UNLABELLED} is a class like any other ({counted(rows, 'row')}); if it means that a row has no label, remove these rows"
        )


def _class_sizes(features: FeatureSet) -> list[int]:
    sizes: list[int] = features.labels[features.train].unique(return_counts=True)[1].tolist()
    return sizes


def _setting(loss: LossPlan, key: str) -> int | None:
    """A whole number among the settings of a loss, also its default; None if it has no such setting, or a range of it."""
    if ":" in loss.name:
        return None
    value = all_settings(loss.name, loss.fixed).get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
