"""What the intervals of a study's differences are over, and which of them are approximate."""

from __future__ import annotations

from itertools import combinations

from lossgauge.diagnostics.references import FROZEN
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted


def interval_notes(view: StudyView) -> list[str]:
    """One sentence for each dataset: over what, from how many seeds and queries, and which reasons make some approximate."""
    return [note for dataset in view.datasets if (note := _note(view, dataset))]


def _note(view: StudyView, dataset: str) -> str:
    found = _differences(view, dataset)
    if not found:
        return ""
    titles = " and ".join(column.title for column in view.retrieval)
    over = " or ".join(dict.fromkeys(of.over for of in found))
    counts = [_counts([of.size for of in found], "seed")]
    if queries := [of.queries for of in found if of.queries]:
        counts.append(_counts(queries, "query"))
    note = f"{dataset}: differences in {titles} are over {over} ({', '.join(counts)})"
    why = dict.fromkeys(of.approximate for of in found if of.approximate)
    return f"{note}; some are approximate: {'; '.join(why)}" if why else note


def table_notes(view: StudyView, dataset: str) -> tuple[str, ...]:
    """How to read the tables of retrieval of queries and documents, in a sentence each."""
    columns = view.measures.retrieval
    levels = [
        of
        for loss in view.losses
        for column in columns
        if (of := view.interval(dataset, loss, column.name)) and of.half_width is not None
    ]
    over = " or ".join(dict.fromkeys(of.over for of in levels))
    notes = [f"±: 95 % intervals over {over}"] if levels else []
    queries = max((of.queries for of in levels), default=0)
    if queries:
        notes[0] += (
            f" ({counted(queries, 'test query')}, {counted(max(of.size for of in levels), 'seed')})"
        )
    if why := dict.fromkeys(of.approximate for of in levels if of.approximate):
        notes[0] += f"; approximate: {'; '.join(why)}"
    raw = view.measures.raw
    notes.append(
        f"Bold: above, the best mean and each loss without a clear difference from it; below, clearly better than the {raw} (after Holm’s "
        f"correction for all losses). The {raw} is your backbone without any training; random unit vectors show what chance gives"
    )
    notes.append(
        "Recall@k is the share of a query’s right documents among the first k, as in lossgauge diagnose: where a query has one "
        "right document, the same as the share of queries that find it among the first k (the hit rate)"
    )
    return tuple(f"{note}." for note in notes)


def _differences(view: StudyView, dataset: str) -> list[Interval]:
    """All that the page shows in retrieval: of two losses, of a loss and the untrained head or the frozen features."""
    pairs = [
        (view.runs(dataset, left), view.runs(dataset, right))
        for left, right in combinations((*view.losses, *view.untrained(dataset)), 2)
    ]
    pairs += [
        (view.runs(dataset, loss), view.reference_runs(dataset, loss, FROZEN))
        for loss in view.losses
    ]
    return [
        of
        for left, right in pairs
        for column in view.retrieval
        if left and right and (of := view.contrast([left], [right], column.name)) is not None
    ]


def _counts(numbers: list[int], noun: str) -> str:
    """`3 seeds`, `2 to 3 seeds`, `901 queries`."""
    least, most = min(numbers), max(numbers)
    return counted(most, noun) if least == most else f"{least:,} to {counted(most, noun)}"
