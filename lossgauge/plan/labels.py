"""The key `labels` of a study file: how many training rows keep their label."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticKnownError

from lossgauge.data.labelled_rows import FORMS, in_words


class LabelPlan(BaseModel):
    """`{share: 0.01}`, `{per_class: 5}` or `{long_tail: 100}`; `all` is a share of 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of each class."""
    per_class: Annotated[int, Field(ge=1)] | None = None
    long_tail: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """The largest class has so many times the rows of the smallest; the sizes between fall geometrically."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticKnownError("float_type")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> LabelPlan:
        if len(self._given) != 1:
            raise ValueError(f"labels take exactly one of {', '.join(FORMS)}")
        return self

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        return self.form or "all"

    @property
    def _given(self) -> dict[str, Any]:
        of_each = {name: getattr(self, name) for name in FORMS}
        return {name: value for name, value in of_each.items() if value is not None}

    @property
    def form(self) -> dict[str, Any] | None:
        """The key that is given, and its value; None if all rows keep their label."""
        return None if self.share == 1 else self._given

    @property
    def title(self) -> str:
        return "all" if self.form is None else in_words(self.form)


def label_entries(value: Any) -> Any:
    """Inputs for a list of `LabelPlan`, from one entry or several."""
    entries = [value] if isinstance(value, dict | str) else value
    if not isinstance(entries, list):
        return entries
    return [{"share": 1} if entry == "all" else entry for entry in entries]
