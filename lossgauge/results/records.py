"""Models of the files in a study's folder: every file that is read is validated by one of them.

A checksum detects damage; a model detects content that no study writes: other types, missing keys.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from lossgauge.files import damaged
from lossgauge.plan.claim import ClaimPlan
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.rules import first_problem
from lossgauge.results.columns import QUERY_COLUMNS, RUN, TABLES
from lossgauge.types import Record

MOST = 1e100
"""The largest valid measurement: its square is still finite."""

Scalar = bool | int | float | str | None
Number = Annotated[float, Field(ge=-MOST, le=MOST)] | None
"""A measurement; None if it is not known."""
Count = Annotated[int, Field(ge=0, lt=2**53)]


def _file_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > 250:
        raise ValueError("it cannot be a file name")
    return name


Name = Annotated[str, AfterValidator(_file_name)]


class Model(BaseModel):
    """A record: values must have the written types; other keys are allowed."""

    model_config = ConfigDict(strict=True, extra="allow")


class Flat(Model):
    """A record without nested lists and mappings."""

    __pydantic_extra__: dict[str, Scalar]


class RunRow(Flat):
    """A run that a study lists."""

    run: Name
    dataset: Name
    loss: str
    base: str
    variant: Literal["default", "tuned", "sensitivity", "trial"]
    seed: Count
    epochs_planned: Count
    trial: Count | None = None
    setting: str | None = None
    factor: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _has_the_columns_of_its_variant(self) -> RunRow:
        if (self.variant == "trial") != (self.trial is not None):
            raise ValueError("a trial has a number, and no other run has one")
        varied = self.setting is not None, self.factor is not None
        if varied != (self.variant == "sensitivity",) * 2:
            raise ValueError(
                "a sensitivity run has a setting and a factor, and no other run has them"
            )
        if self.__pydantic_extra__:
            raise ValueError(f"unknown column {next(iter(self.__pydantic_extra__))!r}")
        return self


class Searched(Flat):
    """The result of a search."""

    dataset: Name
    base: str
    loss: str
    trial: Count | None
    settings: str
    objective: Number
    default_objective: Number
    trials: Count
    failed: Count
    error: str | None


class LeftOut(Flat):
    """A dataset that was not available."""

    dataset: str
    reason: str
    extent: Literal["whole", "part"] = "whole"


class Budget(Model):
    """`tune` of a plan."""

    trials: Count
    epochs: Count | None = None
    sampler: str = "tpe"


class PlanRecord(Model):
    """The keys of a plan that the readers of a study use."""

    question: str
    datasets: list[str]
    losses: list[LossPlan]
    seeds: list[Count]
    epochs: Count
    batch_size: Count
    learning_rate: float
    selection: Literal["last", "best-validation", "oracle"]
    selection_metric: Literal["map_at_r", "recall_at_1", "ndcg_at_10"]
    validation_share: Number
    tune: Budget | None
    sensitivity: list[float]
    claims: list[ClaimPlan] = []


class Study(Model):
    """study.json."""

    plan: PlanRecord
    assumptions: dict[str, str]
    runs: list[RunRow]
    expected: Count
    tuned: list[Searched]
    left_out: list[LeftOut]
    environment: dict[str, Scalar]


class Reference(Model):
    """The geometry of a reference space, which does not come from a loss."""

    __pydantic_extra__: dict[str, Number]
    dataset: Name
    reference: str


class Dataset(Model):
    """datasets/<name>.json."""

    dataset: Name
    fingerprint: str
    references: list[Reference]

    @model_validator(mode="after")
    def _of_one_dataset(self) -> Dataset:
        if any(row.dataset != self.dataset for row in self.references):
            raise ValueError("its references belong to another dataset")
        return self


class AnswerPart(Model):
    """A part of the answer of `lossgauge advise`."""

    topic: Annotated[str, Field(max_length=200)]
    text: Annotated[str, Field(max_length=20_000)]


class AnswerRecord(Model):
    """answer.json."""

    asked: str
    """The question in words: the data and the goal."""
    sentences: list[AnswerPart]


class Failure(Flat):
    """failed/<run>.json."""

    error: str
    traceback: str = ""


class Summary(Flat):
    """summary.json of a run."""

    epochs: Count
    selected_epoch: Count
    settings: str
    protocol: str
    fingerprint: str
    recall_at_1: Number
    map_at_r: Number
    no_decay: str = ""
    """Why the decay of the loss is not defined."""

    @model_validator(mode="after")
    def _measurements_are_numbers(self) -> Summary:
        for name, value in (self.__pydantic_extra__ or {}).items():
            if not name.startswith("setting_"):
                _measurement(name, value)
        return self


class Timing(Model):
    """timing.json of a run; empty if nothing was trained."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step_milliseconds: Number = None
    probe_share: Number = None
    seconds: Number = None


class Config(Model):
    """config.json of a run."""

    dataset: str
    loss: str
    settings: dict[str, Scalar]
    seed: Count
    epochs: Count


class Space(Model):
    """A space that examples were taken from: the frozen features, or the head of a run."""

    name: str
    """The loss as the plan names it, or `frozen features`."""
    run: str | None
    """None for the frozen features."""
    epochs: list[Count]
    """Epochs of the map, ascending; [0] for the frozen features."""
    shares: list[Number]
    """The share of the variance of each epoch's rows that the plane of the map shows."""


class LeftOutImage(Model):
    """An image without a thumbnail."""

    id: str
    reason: str


class ExamplesRecord(Model):
    """record.json of the examples of a dataset."""

    dataset: Name
    key: str
    """Changes with everything that the examples depend on."""
    images: Literal["thumbnails", "none", "absent"]
    """`none` where the study file asked for none, `absent` where the rows are no images."""
    seed: Count
    spaces: list[Space]
    class_names: dict[str, str]
    """Label → its name; a class that is not listed is shown by its number."""
    classes: list[int]
    """Labels in the heat map, in its order."""
    class_count: Count
    """Classes of the test side."""
    left_out: list[LeftOutImage]

    @model_validator(mode="after")
    def _has_one_share_an_epoch(self) -> ExamplesRecord:
        if any(len(space.epochs) != len(space.shares) for space in self.spaces):
            raise ValueError("a space must have one share for each epoch of its map")
        return self


class Thumbnail(Model):
    """A small picture."""

    type: Literal["png", "jpeg"]
    data: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=200_000)]
    """Its bytes in base64."""


class Thumbnails(Model):
    """thumbnails.json of the examples of a dataset: row → its picture."""

    images: dict[str, Thumbnail]


class Streamed(Model):
    """streamed.json of a checkpoint: the files with the step rows up to this checkpoint, by name."""

    parts: dict[Name, dict[str, int | str]]


def checked(path: Path, model: type[BaseModel], record: Record) -> Record:
    """The record. CacheError if it does not fit the model."""
    try:
        model.model_validate(record)
    except ValidationError as error:
        raise damaged(path, first_problem(error)) from None
    return record


def check_columns(path: Path, name: str, schema: pa.Schema) -> None:
    """CacheError unless a table of a run has the columns that identify a row, and numbers in all other columns."""
    if not schema.names:
        return  # no rows: a run without a step, a trial without queries
    first = {column: kind for column, kind in TABLES[name].items() if column not in RUN}
    for column in (*first, *(QUERY_COLUMNS if name == "queries" else ())):
        if column not in schema.names:
            raise damaged(path, f"it has no column {column!r}")
    allowed = {"text": {pa.string()}, "whole": {pa.int32(), pa.int64()}}
    real = {pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.null()}
    if name == "queries":
        real.add(pa.bool_())
    for field in schema:
        kinds = allowed.get(first.get(field.name, "real"), real)
        if field.type not in kinds:
            raise damaged(path, f"its column {field.name!r} has the type {field.type}")


def check_epochs(path: Path, rows: list[Record], epochs: int) -> None:
    """CacheError unless there is one row for each epoch, starting at 0, with valid measurements."""
    if len(rows) != epochs + 1 or any(row.get("epoch") != at for at, row in enumerate(rows)):
        raise damaged(path, f"its rows are not the epochs 0 to {epochs}")
    for row in rows:
        if (column := too_large(row)) is not None:
            raise damaged(path, f"{column} is {row[column]:g}, which is not a valid measurement")


def too_large(row: Record) -> str | None:
    """The first column with a number larger than MOST."""
    for name, value in row.items():
        if isinstance(value, int | float) and MOST < abs(value) < math.inf:
            return name
    return None


def _measurement(name: str, value: Scalar) -> None:
    """ValueError for a value that is not a valid measurement."""
    if isinstance(value, bool | str) or (value is not None and abs(value) > MOST):
        raise ValueError(f"{name} is {value!r}, which is not a valid measurement")
