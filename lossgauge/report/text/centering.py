"""What centering the raw model gives without any training, and which document is a hub: of queries and documents."""

from __future__ import annotations

from collections.abc import Iterator

from lossgauge.report.naming import cut, short_name
from lossgauge.results.columns import COLUMNS
from lossgauge.results.layout import Layout
from lossgauge.results.query_changes import QueryChanges, read_query_changes
from lossgauge.results.run_files import CENTERED, FROZEN
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import known
from lossgauge.stats.number_format import rounded, shown

LONGEST_TEXT = 80
LONGEST_NAME = 40


def free_baseline(view: StudyView, dataset: str, column: str) -> Iterator[str]:
    """A sentence about the centered raw model, and one about a hub; nothing if they were not measured."""
    sentence = centering_sentence(view, dataset, column)
    if sentence:
        yield sentence
    if view.of_pairs and view.files is not None:
        changed = read_query_changes(Layout(view.files.folder), dataset)
        if changed is not None and changed.hub is not None:
            yield hub_sentence(changed)


def centering_sentence(view: StudyView, dataset: str, column: str) -> str:
    """`Centering the raw model alone gives nDCG@10 57.1 % (+5.7 points); the adapter with mnrl gives +7.1 points.`"""
    levels = {row["reference"]: known(row.get(column)) for row in view.references(dataset)}
    raw, centered = levels.get(FROZEN), levels.get(CENTERED)
    if not view.of_pairs or raw is None or centered is None:
        return ""
    title = COLUMNS[column].title
    words = (
        f"Centering the {view.measures.raw} alone (each side minus its own mean) gives {title} {shown(centered, 'percent')} "
        f"({_points(centered - raw)} points)"
    )
    means: dict[Loss, float] = {
        loss: of.mean for loss in view.losses if (of := view.interval(dataset, loss, column))
    }
    if not means:
        return f"{words}."
    best = max(means, key=lambda loss: means[loss])
    name = cut(short_name(best, view.losses), LONGEST_NAME)
    more = ", more than any loss" if centered > means[best] and centered > raw else ""
    return f"{words}{more}; the adapter with {name} gives {_points(means[best] - raw)} points."


def hub_sentence(of: QueryChanges) -> str:
    """Which document is found too often, with the start of its text."""
    assert of.hub is not None
    text = f" ({cut(of.hub.text, LONGEST_TEXT)!r})" if of.hub.text else ""
    evidence = of.hub.evidence.removeprefix(f"document {of.hub.document} ")
    return f"Read document {of.hub.document}{text} first: it {evidence}."


def _points(value: float) -> str:
    return rounded(100 * value, 1, signed=True)
