"""One claim of a user: two groups of losses, a quantity, and which group is higher."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from lossgauge.losses.registry import our_name
from lossgauge.plan.loss import Text

MOST_LOSSES, MOST_CLAIMS = 50, 100
"""Losses of one group, and claims of one file."""


def _parts(value: Any) -> Any:
    """`a` and `a,b` as lists; a comma inside brackets belongs to a loss's settings."""
    if not isinstance(value, str):
        return value
    return [value] if "(" in value else [part.strip() for part in value.split(",")]


def _one_line(text: str) -> str:
    """The words with single spaces: a YAML text may be folded."""
    words = " ".join(text.split())
    if not words:
        raise ValueError("say what is claimed, got an empty text")
    return words


Losses = Annotated[
    list[Text],
    BeforeValidator(_parts, json_schema_input_type=str | list[str]),
    Field(min_length=1, max_length=MOST_LOSSES),
]


class ClaimPlan(BaseModel):
    """The losses of one group have, on average, a higher (or lower) value than those of another."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    claim: Annotated[Text, AfterValidator(_one_line)]
    """The claim in words, for the page."""
    losses: Losses
    """Names, or titles with settings as the report shows them; `untrained` is the head without training."""
    than: Losses
    """The losses that they are compared with."""
    column: Text
    """A column of the runs, such as map_at_r or test_intra."""
    direction: Literal["higher", "lower"]
    split: (
        Literal[
            "official",
            "class-disjoint",
            "halves",
            "given",
            "stratified",
            "component-disjoint",
            "same rows",
        ]
        | None
    ) = None
    """The split that the claim is about; any split if not given."""

    @field_validator("losses", "than")
    @classmethod
    def _as_they_are_named_here(cls, losses: list[str]) -> list[str]:
        named = [our_name(loss) if "(" not in loss else loss for loss in losses]
        if len(set(named)) < len(named):
            raise ValueError(f"a loss is listed twice: {', '.join(losses)}")
        return named

    @model_validator(mode="after")
    def _different_groups(self) -> ClaimPlan:
        both = [loss for loss in self.losses if loss in self.than]
        if both:
            raise ValueError(f"{both[0]} is in losses and in than; remove it from one of them")
        return self


Claims = Annotated[list[ClaimPlan], Field(max_length=MOST_CLAIMS)]


class ClaimsFile(BaseModel):
    """The keys of a file of claims."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claims: Annotated[Claims, Field(min_length=1)]
