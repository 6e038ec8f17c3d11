"""What is asked, and the study that all of its runs have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Int
from torch import Tensor

from lossgauge.advice.candidates import samples_per_class
from lossgauge.backbones.sentence_model import MINILM
from lossgauge.data import DATASETS, TEXTS, needs_backbone
from lossgauge.data.pair_splits import validation_queries
from lossgauge.data.splits import validation_slice
from lossgauge.errors import DataError, InputError
from lossgauge.losses.registry import LOSSES
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.study import Plan, names_pairs
from lossgauge.stats.number_format import counted
from lossgauge.types import FeatureSet

Goal = Literal["top1", "ranking", "diversity", "speed"]

GOALS: tuple[Goal, ...] = get_args(Goal)

PAIR_GOALS: tuple[Goal, ...] = ("top1", "ranking")
"""Of queries and documents: they have no classes whose variance could be kept."""

PAIR_LOSSES = ("mnrl", "gist", "cosent", "contrastive", "triplet", "info_nce")
"""What is tried on queries and documents: losses that differ in what they rank against what. Our choice."""

PAIR_RANK = 32
"""Of the update of the adapter. Our choice."""

IMAGE_BACKBONE = "efficientnet-lite0"

LEAST_MINUTES, MOST_MINUTES = 0.5, 10_000.0
"""Loading torch and writing the page take 10 to 20 seconds alone."""

VALIDATION_SHARE, HELD_CLASSES, MOST_SHARE = 0.2, 10, 0.5
"""Share of the training side that is held out; if test classes are unseen in training, more, until it has 10 classes or is half
of them. With 4 of 20 classes, a search of 84 candidates on ORL faces lost 18 points of MAP@R; with 10 of 20 it lost 1.6."""


class Fit(NamedTuple):
    """What the plan takes from the data."""

    validation_share: float = VALIDATION_SHARE
    samples_per_class: int = 4
    """Of M-per-class batches."""
    rank: int = PAIR_RANK
    """Of the adapter of queries and documents: at most the width of the features."""


class Question(NamedTuple):
    """What a user asks."""

    data: str
    """`folder:PATH`, `embeddings:PATH`, or the name of a dataset."""
    goal: Goal = "ranking"
    minutes: float = 10.0
    backbone: str = IMAGE_BACKBONE
    """For images. For texts, the default stands for `minilm-l6`."""
    embeddings_name: str = "embeddings"
    """For `embeddings:PATH`: the array or column with the embeddings."""
    labels_name: str = "labels"
    """For `embeddings:PATH`: the array or column with the labels."""

    @property
    def names(self) -> dict[str, str]:
        """The names of arrays or columns that are not the usual ones, as a study's keys."""
        keys = ("embeddings_name", "labels_name")
        return {
            key: self._asdict()[key]
            for key in keys
            if self._asdict()[key] != self._field_defaults[key]
        }

    @property
    def metric(self) -> str:
        """The column that settings and losses are judged by on the validation slice."""
        if self.goal == "top1":
            return "recall_at_1"
        return "ndcg_at_10" if self.of_pairs else "map_at_r"

    @property
    def of_pairs(self) -> bool:
        """Whether the data are queries and documents."""
        return names_pairs(as_dataset(self.data))


def check_question(question: Question) -> None:
    """InputError for a goal or a number of minutes that is not possible, or a path without its kind of data."""
    if question.goal not in GOALS:
        raise InputError(f"goal must be {', '.join(GOALS)}, got {question.goal!r}")
    if question.of_pairs and question.goal not in PAIR_GOALS:
        raise InputError(
            f"goal {question.goal} is about classes, and {question.data} has queries and documents: use {' or '.join(PAIR_GOALS)}"
        )
    minutes = question.minutes
    is_number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
    if not is_number or not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise InputError(
            f"minutes must be from {LEAST_MINUTES:g} to {MOST_MINUTES:,.0f}, got {minutes!r}: loading libraries and "
            "writing the page take 10 to 20 seconds alone; 2 minutes are enough for a small dataset"
        )
    data = question.data
    if question.names and not data.startswith("embeddings:"):
        raise InputError(
            f"{' and '.join(question.names)} name arrays or columns of embeddings:PATH, got the data {data!r}"
        )
    if not all(isinstance(name, str) and name for name in question.names.values()):
        raise InputError(
            f"embeddings_name and labels_name must be text, got {', '.join(map(repr, question.names.values()))}"
        )
    if not data or ":" in as_dataset(data) or data in DATASETS:
        return
    if Path(data).is_dir():
        raise InputError(
            f"{data!r} is a folder: for images, give folder:{data}, and for embeddings, embeddings:{data}"
        )
    if Path(data).is_file():
        raise InputError(
            f"{data!r} is a file: for embeddings, give embeddings:{data}, for queries and documents pairs:{data}"
        )


def as_dataset(data: str) -> str:
    """The name that a study uses: a path of a manifest is `folder:PATH`."""
    kind, colon, _ = data.partition(":")
    if data.endswith((".csv", ".parquet")) and not (
        colon and kind in ("folder", "embeddings", "texts", "pairs")
    ):
        return f"folder:{data}"
    return data


def base_plan(
    question: Question,
    *,
    epochs: int,
    losses: list[LossPlan] | None = None,
    seeds: list[int] | None = None,
    fit: Fit | None = None,
    sample: int | None = None,
) -> Plan:
    """The study of a question: every loss of the package with its defaults, if no others are given.

    An epoch is selected by the validation slice, which is made like the test side. Without a `fit`, the study only says which
    data are meant: no slice is cut from them.
    """
    name = as_dataset(question.data)
    keys: dict[str, Any] = {
        "question": "Which loss for this data?",
        "datasets": [name],
        "losses": losses
        or [LossPlan(name=loss) for loss in (PAIR_LOSSES if question.of_pairs else LOSSES)],
        "seeds": seeds or [0],
        "epochs": epochs,
        "batch_size": 64,
        "learning_rate": 0.001,
        **question.names,
    }
    if fit is not None:
        keys |= {
            "selection": "best-validation",
            "selection_metric": question.metric,
            "validation_share": fit.validation_share,
        }
    if needs_backbone(name):
        texts = question.of_pairs or name.startswith(TEXTS)
        default = texts and question.backbone == IMAGE_BACKBONE
        keys["backbone"] = MINILM if default else question.backbone
    if question.of_pairs:
        keys |= {"head": "residual", "rank": PAIR_RANK if fit is None else fit.rank}
    if (
        fit is not None and fit.samples_per_class != 4
    ):  # the default; losses name their own samplers
        keys |= {"sampler": "m_per_class", "samples_per_class": fit.samples_per_class}
    if sample is not None:
        keys["sample"] = sample
    return Plan.model_validate(keys)


def has_unseen_classes(features: FeatureSet) -> bool:
    """Whether no test class is in training. Not of queries and documents, which have no classes."""
    if features.pairs is not None:
        return False
    seen = set(features.labels[features.train].tolist())
    return not seen & set(features.labels[features.test].tolist())


def fit_to(features: FeatureSet) -> Fit:
    """The validation share and the M of M-per-class batches for these data. Raises as `training_labels`."""
    share = VALIDATION_SHARE
    if features.pairs is not None:
        training_labels(features, share)
        return Fit(share, rank=min(PAIR_RANK, features.features.shape[1]))
    if has_unseen_classes(features):
        classes = len(features.labels[features.train].unique())
        share = min(MOST_SHARE, max(share, HELD_CLASSES / classes))
    sizes = training_labels(features, share).unique(return_counts=True)[1].numpy()
    return Fit(share, samples_per_class(sizes))


def training_labels(features: FeatureSet, share: float) -> Int[Tensor, " rest"]:
    """Labels of the rows that are trained on: the training side without this share of it.

    Raises DataError, with what the data would need, if no slice can be cut.
    """
    return _sliced(features, share)[0]


def slice_labels(features: FeatureSet, share: float) -> Int[Tensor, " validation"]:
    """Labels of the validation slice. Raises as `training_labels`."""
    return _sliced(features, share)[1]


def _sliced(
    features: FeatureSet, share: float
) -> tuple[Int[Tensor, " rest"], Int[Tensor, " validation"]]:
    labels = features.labels.numpy()
    if features.pairs is not None:
        try:
            for_training, held_out = validation_queries(labels, features.train.numpy(), share=share)
        except DataError:
            raise DataError(
                f"{features.dataset} has too little data for advice: settings are compared on {share:.0%} of its "
                f"{counted(len(features.train), 'training query')}, and two queries without a common right document are needed there, and two "
                "beside them: give more queries; `lossgauge diagnose` needs less"
            ) from None
        rows = features.train.new_tensor
        return features.labels[rows(for_training)], features.labels[rows(held_out)]
    try:
        rest, validation = validation_slice(
            labels,
            features.train.numpy(),
            features.test.numpy(),
            share=share,
            groups=None if features.groups is None else features.groups.numpy(),
        )
    except DataError as error:
        sizes = np.unique(labels, return_counts=True)[1]
        raise DataError(
            f"{features.dataset} has too little data for advice: {len(labels):,} rows of {len(sizes):,} classes, at most "
            f"{sizes.max():,} of a class. Settings are compared on a part of the training side, which needs four rows of "
            f"a class, or four training classes if test classes are unseen; `lossgauge diagnose` needs less ({error})"
        ) from None
    new = features.train.new_tensor
    return features.labels[new(rest)], features.labels[new(validation)]
