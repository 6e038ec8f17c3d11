"""Queries that got better and worse, as the page lists them."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.errors import CacheError
from lossgauge.report.naming import display_name
from lossgauge.results.layout import Layout
from lossgauge.results.query_changes import QueryChange, QueryChanges, read_query_changes
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.number_format import counted, shown


class ChangedQueries(NamedTuple):
    dataset: str
    sentence: str
    lists: tuple[tuple[str, tuple[tuple[str, str, str, str, str], ...]], ...]
    """Title, and for each query its text, nDCG@10 before and after, the nearest right and the nearest wrong document."""


def changed_queries(view: StudyView) -> list[ChangedQueries]:
    """One for each dataset of queries and documents whose changes were written; a damaged file is left out."""
    if view.files is None:
        return []
    found = []
    for dataset in view.datasets:
        try:
            of = read_query_changes(Layout(view.files.folder), dataset)
        except CacheError:
            continue
        if of is not None:
            found.append(_shown(view, of))
    return found


def _shown(view: StudyView, of: QueryChanges) -> ChangedQueries:
    loss = display_name(Loss(of.loss, view.planned_names.get(of.loss, of.loss)))
    same = of.query_count - of.better_count - of.worse_count
    sentence = (
        f"With {loss}, {of.better_count:,} of {counted(of.query_count, 'test query')} are answered better than by the {view.measures.raw}, "
        f"{of.worse_count:,} worse and {same:,} as before, by nDCG@10 (mean over {counted(of.seeds, 'seed')})"
    )
    lists = (("Most improved", of.better), ("Most worsened", of.worse))
    return ChangedQueries(
        of.dataset,
        sentence,
        tuple((title, tuple(map(_row, rows))) for title, rows in lists if rows),
    )


def _row(of: QueryChange) -> tuple[str, str, str, str, str]:
    before, after = (
        "—" if value is None else shown(value, "percent") for value in (of.before, of.after)
    )
    return of.query, before, after, of.right, of.wrong
