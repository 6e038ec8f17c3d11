"""A study file: the whole experiment as data. Unknown keys are refused, with the nearest known one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lossgauge.errors import PlanError, nearest
from lossgauge.study.loss_plan import (
    LEARNING_RATE,
    Choices,
    LossPlan,
    Range,
    Setting,
    check_rate,
    named,
)

FIRST_TRIAL_SEED = 1_000_000
"""Trials draw from seeds of their own, so that the seeds of the study are fresh to a tuned setting."""


def _listed(value: Any) -> Any:
    """`a,b` and a single entry as lists: what one types after `--set losses=`."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, dict) else value


def _seeds(value: Any) -> Any:
    """`3` as the seeds 0, 1, 2; `4,7` as those two."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= FIRST_TRIAL_SEED:
            raise ValueError(
                f"the number of seeds must be from 1 to {FIRST_TRIAL_SEED}, got {value}"
            )
        return list(range(value))
    return _listed(value)


def _numbers(value: Any) -> Any:
    """`0.5,2` as a list of those."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    return _listed(value)


_LossMapping = (
    LossPlan | Annotated[dict[str, dict[str, Setting] | None], Field(min_length=1, max_length=1)]
)
_LossEntry = str | _LossMapping
"""How a loss may be written: a name, a name with its settings under it, or both spelled out."""

_Seed = Annotated[int, Field(ge=0, lt=FIRST_TRIAL_SEED)]
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_ONLY_WITH = (
    ("samples_per_class", "sampler", ("m_per_class",)),
    ("hidden_size", "head", ("mlp",)),
    ("momentum", "optimizer", ("sgd",)),
)
"""Keys that mean something beside one value of another key only."""


class Tune(BaseModel):
    """The search of each loss's own settings: the same number of trials and epochs for every loss.

    A trial trains on the training rows less a validation slice and is judged on the slice. The test side is
    never asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: Annotated[int, Field(ge=2)] = 20
    """The first is the loss as it stands in the study, so that a tuned loss is no worse on the slice."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Of a trial; the study's own if not given."""
    sampler: Literal["tpe", "random"] = "tpe"
    learning_rate: Range | None = None
    """Searched for every loss; from a tenth to ten times the study's if not given."""

    @field_validator("learning_rate")
    @classmethod
    def _rate_above_zero(cls, searched: Range | None) -> Range | None:
        if searched is not None:
            check_rate(searched)
        return searched


class Plan(BaseModel):
    """The keys of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = "What do these losses do to the embedding space?"
    datasets: Annotated[
        list[str],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        Field(min_length=1),
    ]
    split: Literal["given", "class-disjoint", "stratified"] | None = None
    """Of folder:PATH and embeddings:PATH; chosen by what they are if not given. Named sets have their own."""
    embeddings_name: str = "embeddings"
    """Of embeddings:PATH: the array or column that holds them …"""
    labels_name: str = "labels"
    """… and the one that holds their labels."""
    backbone: str | dict[str, str] = "efficientnet-lite0"
    """One for all datasets, or one for each by its name."""
    center_features: bool = True
    """Subtract the mean of the training features from all."""
    losses: Annotated[
        list[Annotated[LossPlan, BeforeValidator(named, json_schema_input_type=_LossEntry)]],
        BeforeValidator(_listed, json_schema_input_type=_LossEntry | list[_LossEntry]),
        Field(min_length=1),
    ]
    seeds: Annotated[
        list[_Seed],
        BeforeValidator(
            _seeds,
            json_schema_input_type=Annotated[int, Field(ge=1, le=FIRST_TRIAL_SEED)]
            | str
            | list[_Seed],
        ),
        Field(min_length=1),
    ]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    sampler: Literal["random", "m_per_class", "stratified", "stratified_kmeans"] = "random"
    """Which rows make a batch; strata are the classes, or k-means cells of the frozen features."""
    samples_per_class: Annotated[int, Field(ge=2)] = 4
    """For `m_per_class`."""
    head: Literal["linear", "mlp"] = "linear"
    """From features to embeddings: one layer, or two with a ReLU between them."""
    hidden_size: Annotated[int, Field(ge=1)] = 512
    """Of the head `mlp`."""
    embedding_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `sgd`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate; `cosine` falls to 0 at the end."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the learning rate rises from 0, whatever the schedule."""
    retrieval_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between two measurements of retrieval; the first and the last are always measured."""
    selection: Literal["last", "best-validation", "oracle"] = "last"
    """Which epoch counts: the last, the best on a validation slice of the training side, or the best on the
    test side itself, which no honest comparison may use."""
    selection_metric: Literal["map_at_r", "recall_at_1"] = "map_at_r"
    """What `best-validation`, `oracle` and `tune` look at."""
    validation_share: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Of the training classes where test classes are unseen, else of each class's training samples."""
    tune: Tune | None = None
    sensitivity: Annotated[
        list[_Factor],
        BeforeValidator(_numbers, json_schema_input_type=_Factor | str | list[_Factor]),
    ] = []
    """Each loss again with its margin, temperature or scale at these multiples of what it is."""

    @field_validator("datasets", "losses", "seeds", "sensitivity")
    @classmethod
    def _each_once(cls, entries: list[Any]) -> list[Any]:
        seen = Counter(entry.title if isinstance(entry, LossPlan) else entry for entry in entries)
        double = [str(entry) for entry, count in seen.items() if count > 1]
        if double:
            raise ValueError(f"named twice: {', '.join(sorted(double))}")
        return entries

    @model_validator(mode="after")
    def _no_contradiction(self) -> Plan:
        for key, needed, values in _ONLY_WITH:
            if key in self.model_fields_set and getattr(self, needed) not in values:
                raise ValueError(
                    f"{key} is of no use with {needed}: {getattr(self, needed)}; "
                    f"leave it out, or take {needed}: {' or '.join(values)}"
                )
        judged = self.tune is not None or self.selection != "last"
        if "selection_metric" in self.model_fields_set and not judged:
            raise ValueError(
                "selection_metric is of no use with selection: last; leave it out, "
                "or take selection: best-validation, or tune"
            )
        if "validation_share" in self.model_fields_set and not (
            self.tune is not None or self.selection == "best-validation"
        ):
            raise ValueError(
                f"validation_share is of no use with selection: {self.selection}; leave it out, "
                "or take selection: best-validation, or tune"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be below epochs, got {self.warmup_epochs} of {self.epochs}"
            )
        if self.tune is not None and self.warmup_epochs >= (self.tune.epochs or self.epochs):
            raise ValueError(
                f"warmup_epochs must be below tune.epochs too, or a trial is nothing but warm-up, got "
                f"{self.warmup_epochs} of {self.tune.epochs}"
            )
        if self.tune is None and (ranged := [loss for loss in self.losses if loss.searched]):
            raise ValueError(
                f"{ranged[0].title} has a range for {next(iter(ranged[0].searched))!r}, which needs tune, "
                "as in tune: {trials: 20}; or give one value"
            )
        if 1.0 in self.sensitivity:
            raise ValueError("sensitivity: 1 is the loss as it stands; leave it out")
        return self

    def backbone_of(self, dataset: str) -> str:
        """The backbone of a dataset. Raises PlanError where a mapping does not name it."""
        if isinstance(self.backbone, str):
            return self.backbone
        if dataset not in self.backbone:
            raise PlanError(
                f"backbone names none for {dataset!r}: add it to the mapping, or give one for all"
            )
        return self.backbone[dataset]


def load_plan(source: str, *, overrides: Iterable[str] = ()) -> Plan:
    """The plan of a built-in study (`demo`, `paper`) or of a YAML file, with `key=value` overrides on top.

    Raises PlanError for an unknown name, key or value, naming the key and the rule.
    """
    return parse_plan(_text(source), overrides=overrides, source=source)


def parse_plan(text: str, *, overrides: Iterable[str] = (), source: str = "the study") -> Plan:
    """A plan from YAML text."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day that no calendar has
        raise PlanError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise PlanError(f"{source} must hold keys and values, got {type(content).__name__}")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise PlanError(f"--set takes key=value, got {override!r}")
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise PlanError(f"--set {override!r}: the value is not valid YAML") from None
        try:
            _put(content, key.strip().split("."), parsed)
        except (LookupError, ValueError) as error:
            raise PlanError(f"--set {override!r}: {error.args[0]}") from None
    unknown = [key for key in content if key not in Plan.model_fields]
    if unknown:
        raise PlanError(
            f"unknown key {unknown[0]!r} in {source}{nearest(str(unknown[0]), Plan.model_fields)}"
        )
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise PlanError("; ".join(_in_words(error, source))) from None


def schema() -> dict[str, Any]:
    """JSON Schema of a study file, for editors that complete and check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Plan.model_json_schema(mode="validation"),
        "title": "lossgauge study",
    }


def built_in_studies() -> list[str]:
    """Names that `load_plan` knows without a file."""
    folder = files("lossgauge") / "studies"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def _text(source: str) -> str:
    if source in built_in_studies():
        return (files("lossgauge") / "studies" / f"{source}.yaml").read_text(encoding="utf-8")
    path = Path(source)
    if not path.is_file():
        raise PlanError(
            f"no study is named {source!r} and there is no such file{nearest(source, built_in_studies())}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{source} cannot be read as text: {error}") from None


def _put(content: Any, path: list[str], value: Any) -> None:
    """Set the value at a path of keys; in a list of losses a name is the key. LookupError in words."""
    key, *rest = path
    if not rest:
        content[key] = value
        return
    inner = content.get(key)
    if inner is None:
        inner = content[key] = {}
    if key == "losses" and isinstance(inner, str | list):
        entries = content[key] = [named(entry) for entry in _listed(inner)]
        losses = [entry for entry in entries if isinstance(entry, dict)]
        inner, rest = _settings_of(losses, rest)
    if not isinstance(inner, dict):
        raise LookupError(f"{key} is {inner!r}, which has no key {rest[0]!r}")
    _put(inner, rest, value)


def _settings_of(losses: list[dict[str, Any]], path: list[str]) -> tuple[Any, list[str]]:
    """The settings of the loss that a path begins with, and what is left of the path. A name may have dots in it."""
    known = [str(loss.get("name")) for loss in losses]
    for end in range(len(path), 0, -1):
        name, rest = ".".join(path[:end]), path[end:]
        if name not in known:
            continue
        if known.count(name) > 1:
            raise LookupError(
                f"{known.count(name)} losses are named {name!r}; give all of losses instead"
            )
        if not rest:
            raise LookupError(f"name a setting, as in losses.{name}.margin=0.1")
        return losses[known.index(name)].setdefault("settings", {}), rest
    raise LookupError(f"no loss is named {path[0]!r}{nearest(path[0], known)}")


def _in_words(error: ValidationError, source: str) -> Iterator[str]:
    told: set[str] = set()
    for problem in error.errors():
        *above, last = problem["loc"] or ("",)
        where = ".".join(str(part) for part in problem["loc"] if part not in _TAGS)
        given = problem["input"]
        if problem["type"] == "missing":
            yield f"{source} lacks the key {where!r}"
        elif problem["type"] == "extra_forbidden":
            known = _MODELS.get(str(above[-1]) if above else "", LossPlan).model_fields
            yield f"{source}: unknown key {where!r}{nearest(str(last), known)}"
        elif "value" in above:
            # one line for a setting, not one for each type that it might have been
            setting = where.rpartition(".")[0]
            if setting not in told:
                yield (
                    f"{source}: {setting} must be one finite value, {{low: …, high: …}} or {{choices: […]}}, "
                    f"got {given!r}"
                )
            told.add(setting)
        elif "backbone" in above:
            if "backbone" not in told:
                yield f"{source}: backbone must be one name, or {{dataset: name}} for each dataset"
            told.add("backbone")
        elif problem["type"] == "too_short":
            least = f"at least {problem['ctx']['min_length']} entries"
            yield f"{source}: {where}: give {_ONE.get(str(last), least)}, got {given!r}"
        elif problem["type"] in _SHAPES:
            hint = ", as in {trials: 20}" if where == "tune" else ""
            yield f"{source}: {where} must be {_SHAPES[problem['type']]}{hint}, got {given!r}"
        elif (
            last not in _TAGS
            and problem["type"] != "value_error"
            and isinstance(given, dict)
            and {"low", "choices"} & given.keys()
        ):
            way = " (for that, tune.learning_rate takes a range)" if where == LEARNING_RATE else ""
            yield (
                f"{source}: {where} cannot be tuned; only the settings of a loss and its learning_rate can{way}: "
                "give one value"
            )
        else:
            # a rule of our own says itself what came
            got = "" if problem["type"] == "value_error" else f", got {given!r}"
            place = f"{source}: {where}: " if where else f"{source}: "
            yield f"{place}{problem['msg'].removeprefix('Value error, ')}{got}"


_TAGS = ("value", "range", "choices")
_MODELS: dict[str, type[BaseModel]] = {
    "tune": Tune,
    "range": Range,
    "choices": Choices,
    LEARNING_RATE: Range,
}
"""Where a nested key is unknown: what it may be."""
_ONE = {
    "datasets": "at least one dataset",
    "losses": "at least one loss",
    "seeds": "at least one seed",
}
_SHAPES = {
    "model_type": "keys and values",
    "dict_type": "keys and values",
    "list_type": "a list",
    "string_type": "text",
}
