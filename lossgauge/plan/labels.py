"""The key `labels` of a study file: how many training rows keep their label."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from lossgauge.data.labelled_rows import FORMS, in_words

ALL: Literal["all"] = "all"


class LabelPlan(BaseModel):
    """`{share: .01}`, `{per_class: 5}` or `{long_tail: 100}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of each class."""
    per_class: Annotated[int, Field(ge=1)] | None = None
    long_tail: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """The largest class has so many times the rows of the smallest; the sizes between fall geometrically."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("give a number")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> LabelPlan:
        if len(self.form) != 1:
            raise ValueError(f"labels take exactly one of {', '.join(FORMS)}")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return self.form

    @property
    def form(self) -> dict[str, float]:
        """The key that is given, and its value."""
        given = {name: getattr(self, name) for name in FORMS}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def title(self) -> str:
        return in_words(self.form)


LabelEntry = Literal["all"] | LabelPlan


def label_entries(value: Any) -> Any:
    """A list of entries from one of them."""
    return [value] if isinstance(value, dict | str) else value
