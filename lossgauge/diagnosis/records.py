"""What a diagnosis contains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from lossgauge.diagnosis.parts import Norms
from lossgauge.diagnosis.search import Search
from lossgauge.diagnostics.confusion import ConfusedClasses
from lossgauge.diagnostics.copies import Copies
from lossgauge.diagnostics.hubness import Hubness
from lossgauge.diagnostics.label_errors import LabelErrors
from lossgauge.diagnostics.open_set import OpenSet
from lossgauge.diagnostics.spectrum import Spectrum
from lossgauge.diagnostics.thresholds import Thresholds
from lossgauge.diagnostics.variance import Geometry
from lossgauge.health.finding import Finding
from lossgauge.stats.intervals import Interval
from lossgauge.types import Record

if TYPE_CHECKING:
    from lossgauge.diagnosis.comparison import Comparison

MOST_ROWS = 1000
"""Rows in one list of the record; the counts beside them are of all."""


class Ranked(NamedTuple):
    """Retrieval by one similarity. Intervals are over new queries of the same classes."""

    similarity: str
    """`cosine`, or `dot` where the norms differ."""
    recall_at: dict[int, Interval]
    """k → share of queries with a row of their class among the k nearest."""
    map_at_r: Interval | None
    """None if not every row is a query."""
    r_precision: Interval | None
    query_count: int
    skipped_count: int
    """Queries without another row of their class."""
    searched: int
    """Rows that each query was compared with, itself included."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was measured of a table of embeddings. A part is None if it needs labels or more rows than there are."""

    name: str
    row_count: int
    width: int
    class_count: int
    """0 without labels."""
    class_names: Mapping[int, str]
    notes: tuple[str, ...]
    """One line for each thing that was left out or is doubtful."""
    norms: Norms
    geometry: Geometry
    """Of the directions, that is of the normalised rows."""
    spectrum: Spectrum
    ranked: tuple[Ranked, ...]
    """By cosine first."""
    thresholds: Thresholds | None
    """On cosines."""
    open_set: OpenSet | None
    hubness: Hubness | None
    hubness_intervals: Mapping[str, Interval]
    """`skew` and `never_found` over several samples of rows; empty if all rows were searched."""
    confused: tuple[ConfusedClasses, ...]
    label_errors: LabelErrors | None
    copies: Copies
    findings: tuple[Finding, ...]
    """The worst first."""
    search: Search = field(repr=False)
    """The queries with their nearest rows."""
    labels: np.ndarray | None = field(repr=False)
    """The label of each row."""
    ids: np.ndarray | None = field(repr=False)
    against: Comparison | None = None
    """What changed from these rows to the same rows in another table."""

    @property
    def plain(self) -> Record:
        """As JSON can represent it: NaN is None, and lists of rows end after 1,000."""
        hidden = ("search", "labels", "ids", "class_names")
        given: Record = {
            of.name: plain(getattr(self, of.name)) for of in fields(self) if of.name not in hidden
        }
        given["geometry"].pop("per_class")
        if self.class_names:
            given["class_names"] = {str(label): name for label, name in self.class_names.items()}
        return given

    def lines(self) -> Iterator[str]:
        """The diagnosis in words, line by line."""
        from lossgauge.diagnosis.sentences import lines

        return lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def plain(value: Any) -> Any:
    """Records, tensors and arrays as JSON can represent them."""
    if isinstance(value, Interval):
        return {
            "mean": plain(value.mean),
            "half_width": plain(value.half_width),
            "over": value.over,
            "missing": value.why_none if value.half_width is None else None,
        }
    if isinstance(value, Tensor):
        value = value[:MOST_ROWS].tolist()
    if isinstance(value, np.ndarray):
        value = value[:MOST_ROWS].tolist()
    if hasattr(value, "_asdict"):
        return {key: plain(part) for key, part in value._asdict().items()}
    if hasattr(value, "__dataclass_fields__"):
        return {key: plain(getattr(value, key)) for key in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
