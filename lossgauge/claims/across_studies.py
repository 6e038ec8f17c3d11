"""The verdicts of several studies side by side: does a verdict depend on what differs between their plans?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from lossgauge.claims.records import ClaimRecord
from lossgauge.results.view import StudyView

_SHOWN_ELSEWHERE = ("question", "datasets", "claims")
"""Keys of a plan that change no run, or that the table of verdicts shows."""


class Verdicts(NamedTuple):
    """One claim on one dataset, in each study."""

    key: str
    claim: str
    dataset: str
    of_studies: tuple[str | None, ...]
    """The verdict in each study; None for a study that does not have the dataset."""

    @property
    def tested(self) -> tuple[str, ...]:
        """The verdicts of the studies that test the claim."""
        return tuple(v for v in self.of_studies if v not in (None, "not tested"))

    @property
    def differs(self) -> bool:
        """Whether two studies that test the claim have different verdicts."""
        return len(set(self.tested)) > 1


def across_studies(records: Sequence[Sequence[ClaimRecord]]) -> list[Verdicts]:
    """One row for each dataset and claim, from the records of each study. An own claim is the same if its words are."""
    found: dict[tuple[str, str], tuple[ClaimRecord, list[str | None]]] = {}
    for study, of_study in enumerate(records):
        for record in of_study:
            if record.is_over_datasets:
                continue
            place = (record.datasets[0], record.claim)
            if place not in found:
                found[place] = (record, [None] * len(records))
            found[place][1][study] = record.verdict
    return [
        Verdicts(record.key, claim, dataset, tuple(verdicts))
        for (dataset, claim), (record, verdicts) in found.items()
    ]


def plan_differences(views: Sequence[StudyView]) -> dict[str, tuple[str, ...]]:
    """The keys whose values differ between the plans of studies → the value in each, in words."""
    plans = [_in_words(view) for view in views]
    keys = dict.fromkeys(key for plan in plans for key in plan)
    values = {key: tuple(plan.get(key, "none") for plan in plans) for key in keys}
    return {key: of_each for key, of_each in values.items() if len(set(of_each)) > 1}


def _in_words(view: StudyView) -> dict[str, str]:
    words = {key: _value(v) for key, v in view.plan.items() if key not in _SHOWN_ELSEWHERE}
    return {**words, "losses": ", ".join(view.planned_names)}


def _value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
