"""The keys of a study file, with their defaults and limits, and the rules for keys that depend on each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from lossgauge.errors import PlanError
from lossgauge.losses.registry import losses_for_labels
from lossgauge.plan.backbone import BackbonePlan, backbones
from lossgauge.plan.claim import Claims
from lossgauge.plan.labels import LabelPlan, label_entries
from lossgauge.plan.loss import (
    MOST_ROWS,
    LossPlan,
    Range,
    Sampler,
    Text,
    WrittenSettings,
    check_rate,
    named,
)

MOST_EPOCHS, MOST_UNITS, MOST_TRIALS = 1_000_000, 65_536, 100_000
"""Larger values are treated as typos."""

MOST_SAMPLE = 1_000_000_000

MOST_ENTRIES = 1_000
"""Datasets, losses, seeds or factors of one study."""

ALL = "all"
"""Among the losses of a study: every loss of the package that takes labels."""

FIRST_TRIAL_SEED = 1_000_000
"""Trials use seeds from here on, so that a tuned setting has never been tried with the seeds of the study."""


def listed(value: Any) -> Any:
    """A list from `a,b`, from one loss spelled out, or from a mapping of losses to their settings."""
    entries = _entries(value) if isinstance(value, dict) else _parts(value)
    if isinstance(entries, list) and len(entries) > MOST_ENTRIES:
        raise ValueError(f"at most {MOST_ENTRIES:,} entries, got {len(entries):,}")
    return entries


def _entries(mapping: dict[Any, Any]) -> list[Any]:
    if LossPlan.model_fields.keys() & mapping.keys():
        return [mapping]
    return [{name: settings} for name, settings in mapping.items()]


def _parts(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _losses(value: Any) -> Any:
    """A list as `listed` gives it, with `all` as every loss of the package that takes labels."""
    entries = listed(value)
    if not isinstance(entries, list) or ALL not in entries:
        return entries
    return [one for entry in entries for one in (losses_for_labels() if entry == ALL else (entry,))]


def _seeds(value: Any) -> Any:
    """`3` as the seeds 0, 1, 2; `4,7` as those two."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MOST_ENTRIES:
            raise ValueError(f"the number of seeds must be from 1 to {MOST_ENTRIES:,}, got {value}")
        return list(range(value))
    return _parts(value)


def _numbers(value: Any) -> Any:
    """`0.5,2` as a list of those."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    return listed(value)


def _no_bool(value: Any, kind: Any) -> Any:
    """Refuse true and false where a number is expected: for Python, True is 1."""
    if any(isinstance(entry, bool) for entry in (value if isinstance(value, list) else [value])):
        if _may_hold(kind, int):
            raise PydanticKnownError("int_type")
        if _may_hold(kind, float):
            raise PydanticKnownError("float_type")
    return value


def _may_hold(kind: Any, number: type) -> bool:
    return kind is number or any(_may_hold(part, number) for part in get_args(kind))


_LossMapping = (
    LossPlan | Annotated[dict[str, WrittenSettings | None], Field(min_length=1, max_length=1)]
)
_LossEntry = str | _LossMapping
"""How one loss may be written: a name, `{name: settings}`, or `{name: …, settings: …}`."""

_BackboneEntry = str | BackbonePlan
"""How one backbone may be written: a name, or `{name: …, settings: …}`."""

_LabelEntry = Literal["all"] | LabelPlan

_Seed = Annotated[int, Field(ge=0, lt=FIRST_TRIAL_SEED)]
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PAIRS, PAIR_DATASETS = "pairs:", ("wordnet",)
"""Data of queries and documents: `pairs:PATH`, and datasets of this package."""

_ONLY_WITH = (
    ("samples_per_class", "sampler", ("m_per_class",)),
    ("small_classes", "sampler", ("m_per_class",)),
    ("alpha", "sampler", ("dirichlet",)),
    ("hidden_size", "head", ("mlp",)),
    ("embedding_size", "head", ("linear", "mlp")),
    ("rank", "head", ("residual",)),
    ("sides", "head", ("residual",)),
    ("momentum", "optimizer", ("sgd",)),
)
"""Keys that have an effect only with some values of another key."""


OWN_DATA_KEYS = {
    "split": ("embeddings", "folder", "texts", "pairs"),
    "embeddings_name": ("embeddings",),
    "labels_name": ("embeddings",),
}
"""Keys that have an effect only for these kinds of a user's own data."""


_OF_CLASSES = ("center_features", "labels", "sample", "images")
"""Keys that have no effect on queries and documents."""


def without_effect(plan: Mapping[str, Any]) -> frozenset[str]:
    """The keys of a plan of queries and documents, written in full, that change nothing in it."""
    hidden = {key for key, needed, values in _ONLY_WITH if plan.get(needed) not in values}
    kinds = {str(name).partition(":")[0] for name in plan.get("datasets") or ()}
    hidden |= {key for key, own in OWN_DATA_KEYS.items() if not kinds & {*own}}
    if plan.get("tune") is None and plan.get("selection") != "best-validation":
        hidden.add("validation_share")
        hidden |= {"selection_metric"} if plan.get("selection") == "last" else set()
    return frozenset({*hidden, *_OF_CLASSES})


class Mined(BaseModel):
    """Hard negatives from the frozen features: of each query the documents that are nearest without being right."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    per_query: Annotated[int, Field(ge=1, le=MOST_UNITS)] = 1
    """Drawn again for each batch."""
    from_rank: Annotated[int, Field(ge=0, le=MOST_UNITS)] = 10
    """This many of the nearest documents are skipped: they are often right without being judged."""
    to_rank: Annotated[int, Field(ge=1, le=MOST_UNITS)] = 50
    """The last rank that is drawn from."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A negative must be less similar to the query than this share of the similarity of its right document."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: Any) -> Any:
        return _no_bool(value, cls.model_fields[info.field_name].annotation)

    @model_validator(mode="after")
    def _ordered(self) -> Mined:
        if self.from_rank >= self.to_rank:
            raise ValueError(
                f"from_rank must be below to_rank, got {self.from_rank} and {self.to_rank}"
            )
        if self.per_query > self.to_rank - self.from_rank:
            raise ValueError(
                f"per_query must be at most the {self.to_rank - self.from_rank} ranks from from_rank to to_rank, got "
                f"{self.per_query}"
            )
        return self


def _kind_of_negatives(value: Any) -> str:
    return "mined" if isinstance(value, dict | Mined) else "words"


def names_pairs(name: Any) -> bool:
    """Whether a dataset of this name has queries and documents."""
    return isinstance(name, str) and (name.startswith(PAIRS) or name in PAIR_DATASETS)


class Tune(BaseModel):
    """The search of each loss's own settings: the same number of trials and epochs for every loss.

    A trial trains on the training rows without a validation slice, and is measured on the slice. The test side
    is not used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    trials: Annotated[int, Field(ge=2, le=MOST_TRIALS)] = 20
    """The first trial is the loss as the study has it, so the tuned loss is never worse on the slice."""
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = None
    """Epochs of one trial; those of the study if not given."""
    sampler: Literal["tpe", "random"] = "tpe"
    learning_rate: Range | None = None
    """The range searched for every loss; from a tenth to ten times the study's rate if not given."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: Any) -> Any:
        return _no_bool(value, cls.model_fields[info.field_name].annotation)

    @field_validator("learning_rate")
    @classmethod
    def _rate_above_zero(cls, searched: Range | None) -> Range | None:
        if searched is not None:
            check_rate(searched)
        return searched


class Plan(BaseModel):
    """The keys of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    question: Text = "What do these losses do to the embedding space?"
    datasets: Annotated[
        list[Text],
        BeforeValidator(listed, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=MOST_ENTRIES),
    ]
    split: Literal["given", "class-disjoint", "stratified", "component-disjoint"] | None = None
    """For your own data; chosen by its classes if not given. `component-disjoint` is for pairs:PATH. Named datasets have their own split."""
    embeddings_name: Text = "embeddings"
    """For embeddings:PATH: the array or column with the embeddings."""
    labels_name: Text = "labels"
    """For embeddings:PATH: the array or column with the labels."""
    backbone: Annotated[
        BackbonePlan | dict[Text, BackbonePlan],
        BeforeValidator(
            backbones, json_schema_input_type=_BackboneEntry | dict[str, _BackboneEntry]
        ),
    ] = BackbonePlan(name="efficientnet-lite0")
    """One for all datasets, or one for each dataset by its name."""
    center_features: StrictBool = True
    """Subtract the mean of the training features from all. False for queries and documents: with the head `residual`, epoch 0
    is then the raw model."""
    losses: Annotated[
        list[Annotated[LossPlan, BeforeValidator(named, json_schema_input_type=_LossEntry)]],
        BeforeValidator(
            _losses,
            json_schema_input_type=_LossEntry
            | list[_LossEntry]
            | Annotated[
                dict[str, WrittenSettings | None],
                Field(min_length=1, max_length=MOST_ENTRIES),
            ],
        ),
        Field(min_length=1, max_length=MOST_ENTRIES),
    ]
    seeds: Annotated[
        list[_Seed],
        BeforeValidator(
            _seeds,
            json_schema_input_type=Annotated[int, Field(ge=1, le=MOST_ENTRIES)] | str | list[_Seed],
        ),
        Field(min_length=1, max_length=MOST_ENTRIES),
    ]
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
    batch_size: Annotated[int, Field(ge=2, le=MOST_ROWS)]
    sampler: Sampler = "random"
    """How the rows of a batch are drawn. Strata are the classes, or k-means cells of the frozen features. `drawn` gives each
    anchor one random pair (contrastive) or triplet (triplet) from the whole training side."""
    samples_per_class: Annotated[int, Field(ge=2, le=MOST_ROWS)] = 4
    """For `m_per_class`; `batch_size` is rounded down to a multiple of it."""
    small_classes: Literal["leave-out", "repeat"] = "leave-out"
    """For `m_per_class`: a class with fewer training rows is left out of the batches, or its rows are repeated."""
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """For `dirichlet`: a smaller value gives batches of fewer classes."""
    memory: Annotated[int, Field(ge=0, le=MOST_ROWS)] = 0
    """Cross-batch memory: the last rows of earlier batches, which a pair loss sees as further columns without a gradient."""
    negatives: Annotated[
        Annotated[Literal["given", "none"], Tag("words")] | Annotated[Mined, Tag("mined")],
        Discriminator(_kind_of_negatives),
    ] = "given"
    """Hard negatives of queries: those in the data, none, or mined from a band of ranks, as in {from_rank: 10, to_rank: 50}."""
    head: Literal["linear", "mlp", "residual"] = "linear"
    """From features to embeddings: one layer, two with a ReLU between them, or the features plus an update of low rank, which starts
    as the features themselves."""
    rank: Annotated[int, Field(ge=1, le=MOST_UNITS)] = 16
    """Of the update of the head `residual`."""
    sides: Literal["both", "query"] = "both"
    """For pairs with the head `residual`: with `query`, documents stay the normalised features, so an index of them stays as it is."""
    hidden_size: Annotated[int, Field(ge=1, le=MOST_UNITS)] = 512
    """For the head `mlp`."""
    embedding_size: Annotated[int, Field(ge=1, le=MOST_UNITS)] = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For `sgd`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate over the epochs; `cosine` ends at 0."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the learning rate rises from 0, with either schedule."""
    retrieval_every: Annotated[int, Field(ge=1)] = 1
    """Retrieval is measured every so many epochs, and always in the first and the last."""
    selection: Literal["last", "best-validation", "oracle"] = "last"
    """Which epoch counts: the last, the best on a validation slice of the training side, or (oracle) the best on
    the test side itself, which makes results too good for a fair comparison. With the head `residual`, epoch 0 counts too: it is
    the raw model."""
    selection_metric: Literal["map_at_r", "recall_at_1", "ndcg_at_10"] = "map_at_r"
    """The metric that `best-validation`, `oracle` and `tune` compare; `ndcg_at_10` for queries and documents."""
    sample: Annotated[int, Field(ge=8, le=MOST_SAMPLE)] | None = None
    """A class-balanced sample of about so many rows of each dataset, on both sides of the split; all rows if not given."""
    validation_share: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Share of the training classes where test classes are unseen, else of each class's training samples."""
    tune: Tune | None = None
    labels: Annotated[
        list[LabelPlan],
        BeforeValidator(label_entries, json_schema_input_type=_LabelEntry | list[_LabelEntry]),
        Field(min_length=1, max_length=MOST_ENTRIES),
    ] = [LabelPlan(share=1)]
    """How many training rows keep their label, as in {per_class: 5}, {share: 0.01} or {long_tail: 100}; others are not used. Drawn
    from the seed of each run. In a list, each entry makes a dataset of its own in the tables."""
    sensitivity: Annotated[
        list[_Factor],
        BeforeValidator(_numbers, json_schema_input_type=_Factor | str | list[_Factor]),
        Field(max_length=MOST_ENTRIES),
    ] = []
    """Each loss is run again with its margin, temperature or scale multiplied by these factors."""
    images: Literal["thumbnails", "none"] = "thumbnails"
    """Whether the study's folder and its page hold small pictures of the images they show."""
    claims: Claims = []
    """Claims of your own that the report tests beside those of the paper."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: Any) -> Any:
        return _no_bool(value, cls.model_fields[info.field_name].annotation)

    @field_validator("datasets", "losses", "seeds", "sensitivity", "labels")
    @classmethod
    def _each_once(cls, entries: list[Any]) -> list[Any]:
        seen = Counter(
            entry.title if isinstance(entry, LossPlan | LabelPlan) else entry for entry in entries
        )
        double = [str(entry) for entry, count in seen.items() if count > 1]
        if double:
            raise ValueError(f"listed twice: {', '.join(sorted(double))}")
        return entries

    @model_validator(mode="after")
    def _no_contradiction(self) -> Plan:
        for key, needed, values in _ONLY_WITH:
            there = {getattr(self, needed)}
            if needed == "sampler":
                there |= {loss.sampler for loss in self.losses}
            if key in self.model_fields_set and not there & {*values}:
                raise ValueError(
                    f"{key} has no effect with {needed}: {getattr(self, needed)}; "
                    f"remove it, or set {needed}: {' or '.join(values)}"
                )
        self._check_pairs()
        self._check_memory()
        own = [name.partition(":")[0] for name in self.datasets if ":" in name]
        for key, kinds in OWN_DATA_KEYS.items():
            if key in self.model_fields_set and getattr(self, key) and not {*kinds} & {*own}:
                raise ValueError(
                    f"{key} has no effect without a dataset "
                    f"{' or '.join(f'{kind}:PATH' for kind in kinds)}; remove it"
                )
        judged = self.tune is not None or self.selection != "last"
        if "selection_metric" in self.model_fields_set and not judged:
            raise ValueError(
                "selection_metric has no effect with selection: last; remove it, "
                "or set selection: best-validation, or tune"
            )
        if "validation_share" in self.model_fields_set and not (
            self.tune is not None or self.selection == "best-validation"
        ):
            raise ValueError(
                f"validation_share has no effect with selection: {self.selection}; remove it, "
                "or set selection: best-validation, or tune"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be below epochs, got {self.warmup_epochs} of {self.epochs}"
            )
        if self.tune is not None and self.warmup_epochs >= (self.tune.epochs or self.epochs):
            raise ValueError(
                f"warmup_epochs must be below tune.epochs too, or a trial would be only warm-up, got "
                f"{self.warmup_epochs} of {self.tune.epochs}"
            )
        if self.tune is None and (ranged := [loss for loss in self.losses if loss.searched]):
            raise ValueError(
                f"{ranged[0].title} has a range for {next(iter(ranged[0].searched))!r}, which needs tune, "
                "as in tune: {trials: 20}; or give one value"
            )
        if 1.0 in self.sensitivity:
            raise ValueError("sensitivity: a factor of 1 leaves the loss unchanged; remove it")
        return self

    def _check_pairs(self) -> None:
        """ValueError for keys that contradict queries and documents, or that have an effect only for them."""
        if not self.of_pairs:
            for key in ("negatives", "sides"):
                if key in self.model_fields_set:
                    raise ValueError(
                        f"{key} has no effect without queries and documents; remove it, or use a dataset pairs:PATH"
                    )
            if self.selection_metric == "ndcg_at_10":
                raise ValueError(
                    "selection_metric: ndcg_at_10 is for queries and documents; use map_at_r or recall_at_1"
                )
            return
        # their defaults; a value that the user gives is checked instead
        defaults: dict[str, Any] = {
            "question": "Do these losses find the right documents better than the raw model?",
            "center_features": False,
            "selection_metric": "ndcg_at_10",
        }
        self.__dict__.update(
            {key: value for key, value in defaults.items() if key not in self.model_fields_set}
        )
        if classes := [name for name in self.datasets if not names_pairs(name)]:
            raise ValueError(
                f"a study has queries and documents or classes, not both, but {classes[0]} has classes; make two studies"
            )
        if self.center_features:
            raise ValueError(
                "center_features has no effect on queries and documents: the raw model is what losses are compared with; remove it"
            )
        for sampler in (self.sampler, *(loss.sampler for loss in self.losses)):
            if sampler not in (None, "random"):
                raise ValueError(
                    f"sampler: {sampler} needs classes, and queries have none; remove it: batches are random queries without duplicate texts"
                )
        if any(entry.form for entry in self.labels):
            raise ValueError("labels has no effect on queries and documents; remove it")
        if self.sample is not None:
            raise ValueError(
                "sample draws rows of classes, and queries have none; remove it, or give a smaller file"
            )

    def _check_memory(self) -> None:
        """ValueError for a memory beside what has no batches of labelled rows."""
        if not any(self.memory_of(loss) for loss in self.losses):
            return
        if self.of_pairs:
            raise ValueError(
                "memory has no effect on queries and documents; remove it, or use a larger batch_size"
            )
        for loss in self.losses:
            if self.memory_of(loss) and (loss.sampler or self.sampler) == "drawn":
                raise ValueError(
                    "memory has no effect with sampler: drawn, whose terms are single pairs or triplets; remove it, or take another sampler"
                )

    def memory_of(self, loss: LossPlan) -> int:
        """Rows of earlier batches that a loss of the study also sees."""
        return self.memory if loss.memory is None else loss.memory

    @property
    def of_pairs(self) -> bool:
        """Whether the datasets are queries and documents."""
        return any(names_pairs(name) for name in self.datasets)

    def backbone_of(self, dataset: str) -> BackbonePlan:
        """The backbone of a dataset. Raises PlanError if the mapping has no entry for it."""
        if isinstance(self.backbone, BackbonePlan):
            return self.backbone
        if dataset not in self.backbone:
            raise PlanError(
                f"backbone has no entry for {dataset!r}: add one, or give one backbone for all datasets"
            )
        return self.backbone[dataset]
