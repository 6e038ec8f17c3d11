"""What a run depends on, as one record: the config.json of a run, whose hash is the run's id."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from lossgauge.data.labelled_rows import in_words, labelled_count
from lossgauge.losses.registry import all_settings
from lossgauge.plan.loss import UNTRAINED, LossPlan
from lossgauge.plan.study import FIRST_TRIAL_SEED, Plan
from lossgauge.results.layout import FORMAT
from lossgauge.study.schedule.code_hash import code_of
from lossgauge.types import FeatureSet, Record

KEPT_EPOCHS = (0, 1, 2, 5, 10, 20, 50)
"""With the last epoch, these are the eight epochs at most whose heads are kept: early ones are close together, because a
head changes most then, and they are the same for runs of any length. Our choice."""


ONLY_WHERE_USED = ("rank", "sides", "negatives", "labels", "alpha", "memory")
"""Settings that are left out of the record of a run that does not use them."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides the numbers of a run. The defaults of the training settings are those of the untrained head.

    `default`, `tuned` and `sensitivity` runs of equal settings have equal configs: such a run is done once.
    """

    format: int
    """Of the study's folder."""
    lossgauge: str
    """The version of this package."""
    dataset: str
    protocol: str
    train_samples: int
    fingerprint: str
    """Of the dataset's split: see `FeatureSet`."""
    backbone: str
    features: dict[str, str]
    """What the features depend on: the `identity` of a `FeatureSet`."""
    loss: str
    """Its name, or `file.py:Name`."""
    settings: Record
    """All settings of the loss, defaults too."""
    code: str
    """The hash of the code that decides the numbers: see `code_of`."""
    seed: int
    head: Literal["linear", "mlp", "residual"]
    hidden_size: int | None
    """None without a hidden layer."""
    embedding_size: int
    measured_on: Literal["test", "validation"] = "test"
    """A trial is measured on the validation slice of the training side."""
    validation_share: float | None = None
    """Share of the training side in that slice; None if no slice is cut."""
    epochs: int = 0
    selection: Literal["last", "best-validation", "oracle"] | None = None
    selection_metric: str | None = None
    """None if the last epoch counts."""
    retrieval_every: int | None = None
    batch_size: int | None = None
    sampler: str | None = None
    samples_per_class: int | None = None
    """This and the next are None unless the sampler is `m_per_class`."""
    small_classes: str | None = None
    optimizer: str | None = None
    learning_rate: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: str = "constant"
    warmup_epochs: int = 0
    rank: int | None = None
    """Of the head `residual`. This and the following are in the record only where they are used."""
    sides: str | None = None
    """Of queries and documents: `query` if documents stay as they are."""
    negatives: str | Record | None = None
    alpha: float | None = None
    """None unless the sampler is `dirichlet`."""
    memory: int | None = None
    """Rows of earlier batches that the loss also sees; None without a memory."""
    labels: Record | None = None
    """How many training rows keep their label: see `labelled_rows`."""

    @classmethod
    def untrained(cls, plan: Plan, features: FeatureSet, seed: int) -> RunConfig:
        """The config of the initial head. Training settings of the plan do not change it."""
        return cls(**_common(plan, features, LossPlan(name=UNTRAINED), seed), settings={})

    @classmethod
    def trained(cls, plan: Plan, features: FeatureSet, loss: LossPlan, seed: int) -> RunConfig:
        """Of a loss with fixed settings."""
        sliced = plan.selection == "best-validation"
        return cls(
            **_common(plan, features, loss, seed),
            **_training(plan, features, loss),
            **_selection(plan, plan.selection),
            epochs=plan.epochs,
            retrieval_every=plan.retrieval_every,
            validation_share=plan.validation_share if sliced else None,
        )

    @classmethod
    def trial(cls, plan: Plan, features: FeatureSet, loss: LossPlan) -> RunConfig:
        """Of one trial of a search: on the training side alone, with a seed that no other run has."""
        epochs = (plan.tune.epochs if plan.tune is not None else None) or plan.epochs
        best = plan.selection == "best-validation"  # an oracle would pick its epoch by the slice
        return cls(
            **_common(plan, features, loss, FIRST_TRIAL_SEED),
            **_training(plan, features, loss),
            **_selection(plan, "best-validation" if best else "last"),
            epochs=epochs,
            # a trial that is judged by its last epoch needs no other
            retrieval_every=plan.retrieval_every if best else epochs,
            measured_on="validation",
            validation_share=plan.validation_share,
        )

    @property
    def source(self) -> str:
        """The dataset, without how many of its labels are used."""
        return source_of(self.dataset, self.labels)

    @property
    def is_trained(self) -> bool:
        return self.loss != UNTRAINED

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of all of it."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def selects_by(self) -> str | None:
        """The column of the epochs whose highest value selects the epoch; None if the last one counts."""
        if self.selection_metric is None:
            return None
        # the test side of a trial is the validation slice
        on_slice = self.selection == "best-validation" and self.measured_on == "test"
        return f"validation_{self.selection_metric}" if on_slice else self.selection_metric

    @property
    def start_counts(self) -> bool:
        """Whether epoch 0 can be selected: where it is the raw model, so that a run is never worse than it on the slice.

        The start of other heads is random, and no result of a loss. It does not count in trials: all bad settings would be equal there.
        """
        return self.head == "residual" and self.measured_on == "test"

    def measures_retrieval(self, epoch: int) -> bool:
        """Whether retrieval is measured after this epoch; 0 is before training."""
        return epoch in (0, self.epochs) or epoch % (self.retrieval_every or 1) == 0

    def measures_geometry(self, epoch: int) -> bool:
        """Whether geometry is measured after this epoch: curves of trials are not shown."""
        return self.measured_on == "test" or self.measures_retrieval(epoch)

    def keeps_head(self, epoch: int) -> bool:
        """Whether the head after this epoch is kept: those of seed 0 at some epochs, but of no trial."""
        of_seed_0 = self.seed == 0 and self.measured_on == "test"
        return of_seed_0 and self.is_trained and epoch in (*KEPT_EPOCHS, self.epochs)

    def as_json(self) -> Record:
        """The content of config.json: `from_json` is the way back."""
        record = dataclasses.asdict(self)
        return {
            name: value
            for name, value in record.items()
            if name not in ONLY_WHERE_USED or value is not None
        }

    @classmethod
    def from_json(cls, record: Record) -> RunConfig:
        return cls(**record)


def _common(plan: Plan, features: FeatureSet, loss: LossPlan, seed: int) -> Record:
    """What every run depends on."""
    source = source_of(features.dataset, features.labelled)
    return {
        "format": FORMAT,
        "lossgauge": version("lossgauge"),
        "dataset": features.dataset,
        "protocol": features.protocol,
        "train_samples": train_count(features),
        "fingerprint": features.fingerprint,
        "backbone": features.backbone,
        "features": dict(features.identity),
        "loss": loss.name,
        "code": code_of(loss.name, dataset=source, backbone=features.backbone),
        "seed": seed,
        "head": plan.head,
        "hidden_size": plan.hidden_size if plan.head == "mlp" else None,
        "embedding_size": embedding_size(plan, features),
        "rank": plan.rank if plan.head == "residual" else None,
        "sides": plan.sides if features.pairs is not None else None,
        "labels": None if features.labelled is None else dict(features.labelled),
    }


def train_count(features: FeatureSet) -> int:
    """Training rows of each run: those that keep their label. Raises InputError if a class would keep none."""
    if features.labelled is None:
        return len(features.train)
    return labelled_count(features.labels.numpy(), features.train.numpy(), **features.labelled)


def with_labels(features: FeatureSet, form: Record) -> FeatureSet:
    """The features as a dataset of its own, whose runs use only some labels of the training side."""
    return features._replace(dataset=f"{features.dataset} ({in_words(form)})", labelled=form)


def source_of(dataset: str, labels: Mapping[str, float] | None) -> str:
    """The name of a dataset, without how many of its labels are used."""
    return dataset if labels is None else dataset.removesuffix(f" ({in_words(labels)})")


def embedding_size(plan: Plan, features: FeatureSet) -> int:
    """The width of the embeddings: that of the plan, or of the features themselves."""
    return int(features.features.shape[1]) if plan.head == "residual" else plan.embedding_size


def _training(plan: Plan, features: FeatureSet, loss: LossPlan) -> Record:
    """What training depends on, as far as trials and other runs agree."""
    sampler = loss.sampler or plan.sampler
    of_classes = sampler == "m_per_class"
    return {
        "settings": all_settings(loss.name, loss.fixed),
        "batch_size": loss.batch_size or plan.batch_size,
        "sampler": sampler,
        "samples_per_class": plan.samples_per_class if of_classes else None,
        "small_classes": plan.small_classes if of_classes else None,
        "alpha": plan.alpha if sampler == "dirichlet" else None,
        "memory": plan.memory_of(loss) or None,
        "optimizer": plan.optimizer,
        "learning_rate": loss.learning_rate or plan.learning_rate,
        "weight_decay": plan.weight_decay,
        "momentum": plan.momentum if plan.optimizer == "sgd" else 0.0,
        "schedule": plan.schedule,
        "warmup_epochs": plan.warmup_epochs,
        "negatives": None if features.pairs is None else _negatives(plan),
    }


def _negatives(plan: Plan) -> str | Record:
    return plan.negatives if isinstance(plan.negatives, str) else plan.negatives.model_dump()


def _selection(plan: Plan, selection: str) -> Record:
    """Which epoch counts, and by which metric."""
    metric = None if selection == "last" else plan.selection_metric
    return {"selection": selection, "selection_metric": metric}
