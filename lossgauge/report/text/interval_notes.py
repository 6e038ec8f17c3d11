"""What the intervals of a study's differences are over, and which of them are approximate."""

from __future__ import annotations

from itertools import combinations

from lossgauge.report.text.not_training import MEASURES
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView


def interval_notes(view: StudyView) -> list[str]:
    """One sentence for each dataset with two losses: over what, from how many seeds and queries, and what to be careful with."""
    return [note for dataset in view.datasets if (note := _note(view, dataset))]


def _note(view: StudyView, dataset: str) -> str:
    titles = " and ".join(COLUMNS[column].title for column in MEASURES)
    for left, right in combinations(view.losses, 2):
        of = view.difference(dataset, left, right, MEASURES[0])
        if of is None:
            continue
        counts = f"{of.size} seed{'s' * (of.size > 1)}"
        counts += f", {of.queries:,} queries" if of.queries else ""
        note = f"{dataset}: differences in {titles} are over {of.over} ({counts})"
        return f"{note}; approximate: {of.approximate}" if of.approximate else note
    return ""
