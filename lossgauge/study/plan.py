"""A study file: the whole experiment as data. Unknown keys are refused, with the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from lossgauge.errors import PlanError, nearest

UNTRAINED = "untrained"
"""The baseline beside every loss: the same initial head, never trained."""


def _listed(value: Any) -> Any:
    """`a,b` and a single entry as lists: what one types after `--set losses=`."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, dict) else value


def _seeds(value: Any) -> Any:
    """`3` as the seeds 0, 1, 2; `4,7` as those two."""
    if isinstance(value, int) and not isinstance(value, bool):
        return list(range(value))
    return _listed(value)


def _loss(value: Any) -> Any:
    """`triplet` and `{triplet: {margin: 0.1}}` as a name and its settings."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        ((name, settings),) = value.items()
        return {"name": name, "settings": {} if settings is None else settings}
    return value


class LossPlan(BaseModel):
    """One loss of a study: a name, or `my_loss.py:Pull`, and the settings that differ from its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    settings: dict[str, bool | int | float | str] = {}

    @property
    def title(self) -> str:
        """The name, with the settings where there are any: `triplet(margin=0.1)`."""
        inside = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name}({inside})" if inside else self.name


class Plan(BaseModel):
    """The keys of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = "What do these losses do to the embedding space?"
    datasets: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
    split: Literal["given", "class-disjoint", "stratified"] | None = None
    """Of folder:PATH and embeddings:PATH; chosen by what they are if not given. Named sets have their own."""
    embeddings_name: str = "embeddings"
    """Of embeddings:PATH: the array or column that holds them …"""
    labels_name: str = "labels"
    """… and the one that holds their labels."""
    backbone: str | dict[str, str] = "efficientnet-lite0"
    """One for all datasets, or one for each by its name."""
    losses: Annotated[
        list[Annotated[LossPlan, BeforeValidator(_loss)]],
        BeforeValidator(_listed),
        Field(min_length=1),
    ]
    seeds: Annotated[
        list[Annotated[int, Field(ge=0)]], BeforeValidator(_seeds), Field(min_length=1)
    ]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    sampler: Literal["random", "m_per_class", "stratified", "stratified_kmeans"] = "random"
    """Which rows make a batch; strata are the classes, or k-means cells of the frozen features."""
    samples_per_class: Annotated[int, Field(ge=2)] = 4
    """For `m_per_class`."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    embedding_size: Annotated[int, Field(ge=1)] = 128
    center_features: bool = True
    """Subtract the mean of the training features from all."""
    retrieval_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between two measurements of retrieval; the first and the last are always measured."""

    @field_validator("datasets", "losses", "seeds")
    @classmethod
    def _each_once(cls, entries: list[Any]) -> list[Any]:
        seen = [entry.title if isinstance(entry, LossPlan) else entry for entry in entries]
        double = {str(entry) for entry in seen if seen.count(entry) > 1}
        if double:
            raise ValueError(f"named twice: {', '.join(sorted(double))}")
        return entries

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
    except yaml.YAMLError as error:
        raise PlanError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise PlanError(f"{source} must hold keys and values, got {type(content).__name__}")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise PlanError(f"--set takes key=value, got {override!r}")
        try:
            content[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise PlanError(f"--set {override!r}: the value is not valid YAML") from None
    unknown = [key for key in content if key not in Plan.model_fields]
    if unknown:
        raise PlanError(
            f"unknown key {unknown[0]!r} in {source}{nearest(str(unknown[0]), Plan.model_fields)}"
        )
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise PlanError("; ".join(_in_words(error, source))) from None


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


def _in_words(error: ValidationError, source: str) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            yield f"{source} lacks the key {where!r}"
        else:
            yield f"{source}: {where}: {problem['msg'].removeprefix('Value error, ')}, got {problem['input']!r}"
