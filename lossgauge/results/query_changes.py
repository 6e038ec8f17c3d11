"""The queries that a loss answers better or worse than the raw model, with their texts: one file for each dataset of pairs."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lossgauge.files import read_json
from lossgauge.results.layout import Layout
from lossgauge.results.records import Count, Number, checked

LONGEST_TEXT = 300
"""Characters of a text that are kept."""

_Words = Annotated[str, Field(max_length=LONGEST_TEXT)]


class QueryChange(BaseModel):
    """One query."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: _Words
    before: Number
    """nDCG@10 of the raw model."""
    after: Number
    """The mean over the seeds of the loss."""
    right: _Words
    """The nearest right document."""
    wrong: _Words
    """The nearest document that is not right; empty if there is none."""


class Hub(BaseModel):
    """A document that the raw model finds for too many queries."""

    model_config = ConfigDict(strict=True, extra="forbid")

    document: _Words
    """Its id."""
    text: _Words
    """Empty if only vectors are known."""
    evidence: str


class QueryChanges(BaseModel):
    """Of one dataset."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dataset: str
    loss: str
    """As the plan names it: the one with the highest mean nDCG@10."""
    seeds: Count
    better_count: Count
    worse_count: Count
    query_count: Count
    better: list[QueryChange]
    """The largest gain first."""
    worse: list[QueryChange]
    """The largest loss first."""
    hub: Hub | None = None
    """None if no document is found by more queries than usual."""


def read_query_changes(layout: Layout, dataset: str) -> QueryChanges | None:
    """None if the study wrote none. Raises CacheError if the file is damaged."""
    path = layout.query_changes(dataset)
    if not os.path.lexists(path):
        return None
    record = read_json(path)
    return QueryChanges.model_validate(checked(path, QueryChanges, record))
