"""The answer in words: what the losses do to a space, each sentence with its evidence and its doubt.

A difference counts as seen only where the 95 % interval of the differences paired by seed excludes 0.
"""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.report.contents import datasets_of, losses_of
from lossgauge.report.tables import check_fingerprints
from lossgauge.report.text.findings import (
    Finding,
    baseline,
    by_intra,
    by_recall,
    by_soonest,
    compaction,
    retrieval,
    trade_off,
    updates,
    variance,
)
from lossgauge.report.text.health_warnings import still_falling
from lossgauge.report.text.tuning import tuned_finding
from lossgauge.types import Results

_COUNTS = ("no", "this", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Answer(NamedTuple):
    dataset: str
    headline: str
    findings: tuple[Finding, ...]


def question(results: Results) -> str:
    """What the report answers: the plan's own question, or ours with the number of losses in it."""
    asked = results.plan.get("question")
    if isinstance(asked, str) and asked.strip():
        return asked.strip()
    count = len(losses_of(results))
    if count == 1:
        return "What does this loss do to this embedding space?"
    number = _COUNTS[count] if count < len(_COUNTS) else str(count)
    return f"What do {'these ' if count else ''}{number} losses do to this embedding space?"


def answers(results: Results) -> list[Answer]:
    """An answer a dataset. Raises InputError where rows of a dataset come from different splits."""
    check_fingerprints(results)
    return [_answer(results, dataset) for dataset in datasets_of(results)]


def _answer(results: Results, dataset: str) -> Answer:
    parts = (retrieval, baseline, tuned_finding, variance, compaction, updates, trade_off)
    findings = tuple(found for part in parts if (found := part(results, dataset)))
    return Answer(dataset, _headline(results, dataset), findings)


def _headline(results: Results, dataset: str) -> str:
    asked = (
        ("Best retrieval", by_recall(results, dataset)),
        ("Most variance kept", by_intra(results, dataset)),
        ("First to compact", by_soonest(results, dataset)),
    )
    told = [f"{topic}: {found.leading()}." for topic, found in asked if found is not None]
    soonest = by_soonest(results, dataset)
    if soonest and still_falling(results, dataset, soonest.losses[0]):
        told[-1] = told[-1].removesuffix(".") + " (intra was still falling at the end)."
    return " ".join(told) or "No run has finished, so there is no answer yet."
