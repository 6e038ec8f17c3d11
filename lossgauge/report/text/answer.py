"""The answer in words: what the losses do to a space, each sentence with its evidence and its uncertainty.

A difference is called clear only if its 95 % interval excludes 0 after Holm's correction: for comparisons with not training, over
all losses and both references; for the first and the last loss, over all comparisons with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lossgauge.report.text.findings import (
    TopicAnswer,
    by_compaction,
    by_intra,
    compaction,
    gain_over_not_training,
    retrieval,
    tradeoff,
    updates,
    variance,
)
from lossgauge.report.text.health_warnings import still_falling
from lossgauge.report.text.not_training import comparisons, measures, nothing_helps, sentences
from lossgauge.report.text.rankings import ranking
from lossgauge.report.text.short_training import of_the_best
from lossgauge.report.text.tuning import tuned_finding
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView

NO_ANSWER = "No run has finished, so there is no answer yet."
FINDINGS = (
    gain_over_not_training,
    retrieval,
    tuned_finding,
    variance,
    compaction,
    updates,
    tradeoff,
)
"""In the order of the page; each returns None if the study cannot answer it."""
_NUMBERS = ("no", "this", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Answer(NamedTuple):
    dataset: str
    headline: str
    findings: tuple[TopicAnswer, ...]


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
    """First whether training is worth it; then which losses lead, where there are several and some gain by training."""
    of_all = comparisons(view, dataset)
    lead = next(iter(of_all), None)
    short = ""
    if lead is not None and not any(of.gained("better") for of in of_all):
        short = of_the_best(view, dataset, lead)
    words = sentences(view, dataset, short=short)
    if len(view.losses) > 1 and (lead is None or lead.gained("better")):
        gained = {of.column: of.gained("better") for of in of_all}
        best = [
            f"by {COLUMNS[column].title}: {leading}"
            for column in measures(view, dataset)
            if (of := ranking(view, dataset, column, highest_first=True))
            and (leading := of.leading(gained.get(column)))
        ]
        words += [f"Best {'; '.join(best)}"] if best else []
    judges = view.measures.judges_classes
    if judges and len(view.losses) > 1 and not (of_all and nothing_helps(of_all)):
        words += _leading(view, dataset)
    return " ".join(f"{sentence}." for sentence in words) or NO_ANSWER


def _leading(view: StudyView, dataset: str) -> Iterator[str]:
    if kept := by_intra(view, dataset):
        yield f"Most variance kept: {kept.leading()}"
    if soonest := by_compaction(view, dataset):
        falling = still_falling(view, dataset, soonest.losses[0])
        doubt = " (intra was still falling at the end)" if falling else ""
        yield f"First to compact: {soonest.leading()}{doubt}"
