"""One loss of a study file: its name, its settings, and the ranges to search."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lossgauge.losses.registry import LOSS_SETTINGS, our_name

UNTRAINED = "untrained"
"""The baseline beside every loss: the same initial head, never trained."""

LEARNING_RATE, BATCH_SIZE, SAMPLER = TRAINING = ("learning_rate", "batch_size", "sampler")
"""May be settings of a loss, if it needs others than the rest of the study. A loss with its own batches is compared with
losses that saw others."""

MEMORY = "memory"
"""May be a setting of a loss too: rows of earlier batches that it sees, `LossPlan.memory`."""

Sampler = Literal["random", "m_per_class", "stratified", "stratified_kmeans", "dirichlet", "drawn"]

MOST_ROWS = 1_000_000
"""Of a batch: more is treated as a typo."""

Fixed = bool | int | float | str

MOST_CHARACTERS, MOST_CHOICES = 10_000, 1_000


def _writable(text: str) -> str:
    """The text, if any file, page and folder name can hold it."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise ValueError(f"a study's text cannot contain {character!r}")
    return text


Text = Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(_writable)]


def _number(value: Any) -> Any:
    """`1e-3` as a number: YAML reads it as text."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value)
    return float(value) if is_number else value


Value = Annotated[
    bool
    | Annotated[int, Field(ge=-(2**63), lt=2**63)]  # a larger one is taken as a float
    | Annotated[float, Field(allow_inf_nan=False)]
    | Text,
    BeforeValidator(_number),
]


class Range(BaseModel):
    """Numbers from `low` to `high`, searched on a linear or a log scale."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 with log: true, got {self.low:g}")
        return self


class Choices(BaseModel):
    """A list of values to choose from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: Annotated[tuple[Value, ...], Field(min_length=2, max_length=MOST_CHOICES)]

    @field_validator("choices")
    @classmethod
    def _each_once(cls, choices: tuple[Fixed, ...]) -> tuple[Fixed, ...]:
        double = [choice for choice, count in Counter(choices).items() if count > 1]
        if double:
            raise ValueError(f"listed twice: {double[0]}")
        return choices


Searched = Range | Choices


def ends(searched: Searched) -> Sequence[Fixed]:
    """The extreme values of a search: both ends of a range, or every choice."""
    return searched.choices if isinstance(searched, Choices) else (searched.low, searched.high)


def check_rate(searched: Fixed | Searched) -> None:
    """ValueError unless every value of it is a number above 0."""
    for rate in ends(searched) if isinstance(searched, Range | Choices) else (searched,):
        if isinstance(rate, bool | str) or rate <= 0:
            raise ValueError(f"{LEARNING_RATE} must be a number above 0, got {rate!r}")


def _kind(value: Any) -> str:
    if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value):
        return "choices"
    return "range" if isinstance(value, Range | dict) else "value"


Setting = Annotated[
    Annotated[Value, Tag("value")]
    | Annotated[Range, Tag("range")]
    | Annotated[Choices, Tag("choices")],
    Discriminator(_kind),
]


WrittenSettings = dict[
    Text,
    Setting | Annotated[dict[Text, dict[Text, Value] | None], Field(min_length=1, max_length=1)],
]
"""How the settings of a loss may be written: one that holds a loss may be a name and its settings, as in {triplet: {margin: 0.1}}."""


class LossPlan(BaseModel):
    """One loss of a study: a name or `my_loss.py:Pull`, and its settings, each a value or a range to search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    settings: dict[Text, Setting] = {}

    @field_validator("name")
    @classmethod
    def _as_it_is_named_here(cls, name: str) -> str:
        return name if name == UNTRAINED else our_name(name)

    @field_validator("settings", mode="before", json_schema_input_type=WrittenSettings)
    @classmethod
    def _losses_as_text(cls, settings: Any, info: ValidationInfo) -> Any:
        """A loss that is the setting of another one as its title: `{triplet: {margin: 0.3}}` is `triplet(margin=0.3)`."""
        inner = LOSS_SETTINGS.get(info.data.get("name", ""), ())
        if not isinstance(settings, dict) or not settings.keys() & {*inner}:
            return settings
        return {
            key: _title_of(key, value) if key in inner else value for key, value in settings.items()
        }

    @model_validator(mode="after")
    def _valid_training(self) -> LossPlan:
        if LEARNING_RATE in self.settings:
            check_rate(self.settings[LEARNING_RATE])
        size = self.settings.get(BATCH_SIZE, 2)
        if type(size) is not int or not 2 <= size <= MOST_ROWS:
            raise ValueError(
                f"{BATCH_SIZE} of a loss must be a whole number from 2 to {MOST_ROWS:,}, got {size!r}"
            )
        if self.settings.get(SAMPLER, "random") not in get_args(Sampler):
            raise ValueError(
                f"{SAMPLER} of a loss must be {', '.join(get_args(Sampler))}, got {self.settings[SAMPLER]!r}"
            )
        if type(rows := self.settings.get(MEMORY, 0)) is not int or not 0 <= rows <= MOST_ROWS:
            raise ValueError(
                f"{MEMORY} of a loss must be a whole number from 0 to {MOST_ROWS:,}, got {rows!r}"
            )
        return self

    @property
    def fixed(self) -> dict[str, Fixed]:
        """The settings of the loss itself that have one value: without those of its training."""
        return {
            key: value
            for key, value in self.settings.items()
            if not isinstance(value, Range | Choices) and key not in (*TRAINING, MEMORY)
        }

    @property
    def learning_rate(self) -> float | None:
        """The loss's own learning rate; None if it has none, or a range."""
        value = self.settings.get(LEARNING_RATE)
        return None if value is None or isinstance(value, Range | Choices) else float(value)

    @property
    def batch_size(self) -> int | None:
        """The loss's own batch size; None if it has none."""
        size = self.settings.get(BATCH_SIZE)
        return size if isinstance(size, int) else None

    @property
    def sampler(self) -> str | None:
        """The loss's own sampler; None if it has none."""
        sampler = self.settings.get(SAMPLER)
        return sampler if isinstance(sampler, str) else None

    @property
    def memory(self) -> int | None:
        """The loss's own number of rows of earlier batches that it also sees; None if it has none."""
        rows = self.settings.get(MEMORY)
        return rows if isinstance(rows, int) else None

    @property
    def searched(self) -> dict[str, Searched]:
        return {k: v for k, v in self.settings.items() if isinstance(v, Range | Choices)}

    @property
    def title(self) -> str:
        """The name, with the fixed settings in brackets if there are any: `triplet(margin=0.1)`."""
        return self._titled()

    @property
    def tuned_title(self) -> str:
        """The title of this loss with tuned settings: `triplet(tuned)`, `triplet(reduction=active, tuned)`."""
        return self._titled("tuned")

    def _titled(self, *words: str) -> str:
        fixed = {
            key: value
            for key, value in self.settings.items()
            if not isinstance(value, Range | Choices)
        }
        # the losses that it holds first, without their keys if all are given
        holds = LOSS_SETTINGS.get(self.name, ())
        inner = [fixed.pop(key) for key in holds] if fixed.keys() >= {*holds} else []
        others = (f"{key}={value}" for key, value in fixed.items())
        inside = ", ".join((*map(str, inner), *others, *words))
        return f"{self.name}({inside})" if inside else self.name

    def at(self, settings: dict[str, Any]) -> LossPlan:
        """The same loss with these settings replaced, and no ranges."""
        own = {k: v for k, v in self.settings.items() if not isinstance(v, Range | Choices)}
        return LossPlan(name=self.name, settings={**own, **settings})


def _title_of(key: str, value: Any) -> Any:
    """The title of a loss that a setting holds; a number, and what is no loss, as it is."""
    if isinstance(value, str):
        return our_name(value)
    if not isinstance(value, dict) or value.keys() <= {*Range.model_fields, *Choices.model_fields}:
        return value
    loss = named(value) if len(value) == 1 or "name" in value else {}
    if "name" not in loss or not isinstance(loss.get("settings", {}), dict):
        raise ValueError(f"{key} must be one loss, as in triplet or {{triplet: {{margin: 0.1}}}}")
    of = LossPlan.model_validate(loss)
    if of.searched:
        raise ValueError(f"{key}: a loss inside another one takes no ranges; give one value")
    return of.title


def named(value: Any) -> Any:
    """`triplet` and `{triplet: {margin: 0.1}}` as a name and its settings."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        ((name, settings),) = value.items()
        return {"name": name, "settings": {} if settings is None else settings}
    if isinstance(value, dict) and value and not LossPlan.model_fields.keys() & value.keys():
        raise ValueError(
            "each entry of a list must be one loss, as in [triplet, {scl: {temperature: 0.05}}]; "
            f"one entry has {', '.join(map(str, value))}"
        )
    return value
