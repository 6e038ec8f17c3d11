"""The answer in words: what the losses do to a space, each sentence with its evidence and its uncertainty.

A difference is called clear only if the 95 % interval of the differences, paired by seed, excludes 0.
"""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.report.text.findings import (
    Finding,
    by_compaction,
    by_intra,
    by_recall,
    compaction,
    gain_over_untrained,
    retrieval,
    tradeoff,
    updates,
    variance,
)
from lossgauge.report.text.health_warnings import still_falling
from lossgauge.report.text.tuning import tuned_finding
from lossgauge.results.view import StudyView

NO_ANSWER = "No run has finished, so there is no answer yet."
FINDINGS = (retrieval, gain_over_untrained, tuned_finding, variance, compaction, updates, tradeoff)
"""In the order of the page; each returns None if the study cannot answer it."""
_NUMBERS = ("no", "this", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Answer(NamedTuple):
    dataset: str
    headline: str
    findings: tuple[Finding, ...]


def question(view: StudyView) -> str:
    """The question that the report answers: that of the plan, or a default with the number of losses."""
    own = view.plan.get("question")
    if isinstance(own, str) and own.strip():
        return own.strip()
    count = len(view.losses)
    if count == 1:
        return "What does this loss do to this embedding space?"
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"What do {'these ' if count else ''}{number} losses do to this embedding space?"


def answers(view: StudyView) -> list[Answer]:
    """An answer for each dataset."""
    return [_answer(view, dataset) for dataset in view.datasets]


def _answer(view: StudyView, dataset: str) -> Answer:
    findings = tuple(finding for part in FINDINGS if (finding := part(view, dataset)))
    return Answer(dataset, _headline(view, dataset), findings)


def _headline(view: StudyView, dataset: str) -> str:
    soonest = by_compaction(view, dataset)
    rankings = (
        ("Best retrieval", by_recall(view, dataset)),
        ("Most variance kept", by_intra(view, dataset)),
        ("First to compact", soonest),
    )
    sentences = [f"{topic}: {ranking.leading()}" for topic, ranking in rankings if ranking]
    if soonest and still_falling(view, dataset, soonest.losses[0]):
        sentences[-1] += " (intra was still falling at the end)"
    return " ".join(f"{sentence}." for sentence in sentences) or NO_ANSWER
