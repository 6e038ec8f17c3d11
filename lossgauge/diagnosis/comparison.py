"""The same rows in two tables: what moved, which queries got worse, and how sure that is. Kornblith et al. 2019 for CKA."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lossgauge.diagnosis.over_pairs import Classes, directions_of
from lossgauge.diagnosis.ranked import RECALL_AT, mean
from lossgauge.diagnosis.sampling import by_first_row, draw, draw_by_class, number_classes
from lossgauge.diagnosis.search import Search
from lossgauge.diagnosis.source import Source
from lossgauge.diagnostics.thresholds import Difference, threshold_difference
from lossgauge.errors import InputError
from lossgauge.stats.crossed import crossed, crossed_interval
from lossgauge.stats.intervals import Interval

if TYPE_CHECKING:
    from lossgauge.diagnosis.records import Diagnosis

CKA_ROWS = 2000
MOST_CLASSES = 5
SHARES = ("never found", "EER")
"""Numbers of a comparison that are shares, in [0, 1]."""


class ClassChange(NamedTuple):
    """R@1 of the queries of one class."""

    label: int
    before: float
    after: float
    query_count: int


class Comparison(NamedTuple):
    """From one table to another with the same rows: after minus before, paired by query."""

    name: str
    """Of the second table."""
    after: Diagnosis
    recall_at: dict[int, Interval]
    """k → change of R@k; empty without labels, as all that follows but what moved."""
    map_at_r: Interval | None
    """None if not every row is a query."""
    thresholds: Difference | None
    got_worse: Int64[np.ndarray, " some"]
    """Queries whose nearest row was of their class and is no longer; those that are farthest from right first."""
    got_better: Int64[np.ndarray, " some"]
    classes_worse: tuple[ClassChange, ...]
    """The classes that lost the most queries."""
    new_neighbors: Interval
    """Share of the nearest rows of a query that are others than before, in [0, 1]; independent of rotation and width."""
    moved: Int64[np.ndarray, " some"]
    """Queries with new neighbours, those with the most first."""
    cka: float
    """Linear CKA of the two spaces, in [0, 1]: 1 if they differ only by a rotation and a scale."""
    numbers: dict[str, tuple[float, float]]
    """Numbers of the space, before and after."""


def same_items(source: Source, other: Source) -> Source:
    """`other` with the labels of `source` if it has none. Raises InputError unless both have the same rows."""
    if source.row_count != other.row_count:
        raise InputError(
            f"both tables must have the same rows, got {source.row_count:,} in {source.name} and {other.row_count:,} in {other.name}"
        )
    for what, one, two in (("ids", source.ids, other.ids), *_words(source, other)):
        if one is not None and two is not None and (odd := np.flatnonzero(one != two)).size:
            raise InputError(
                f"both tables must have the same rows, but {source.where(int(odd[0]))} has {what[:-1]} {one[odd[0]]!s} and "
                f"{other.where(int(odd[0]))} has {what[:-1]} {two[odd[0]]!s}: {_remedy(what, one, two)}"
            )
    if other.labels is None:
        return other._replace(labels=source.labels, class_names=source.class_names, notes=())
    return other


def share_ids(source: Source, other: Source) -> tuple[Source, Source]:
    """Both tables with the ids of one, if only one has them: the rows are the same."""
    ids = other.ids if source.ids is None else source.ids
    return source._replace(ids=ids), other._replace(ids=ids)


def _remedy(what: str, one: np.ndarray, two: np.ndarray) -> str:
    """What to do about two columns that differ: give the labels the same names, if only these are others."""
    if what == "labels":
        first, second = (
            by_first_row(np.unique(column, return_inverse=True)[1]) for column in (one, two)
        )
        if np.array_equal(first, second):
            return (
                "the same rows are in one class, so only the names of the classes may differ; give both the same names, or sort "
                "both alike"
            )
    return "sort both alike"


def _words(source: Source, other: Source) -> list[tuple[str, np.ndarray | None, np.ndarray | None]]:
    """The labels of both as they are written: text labels may have other numbers."""
    if source.labels is None or other.labels is None:
        return []
    if source.class_names == other.class_names:
        return [("labels", source.labels, other.labels)]
    return [("labels", _named(source, source.labels), _named(other, other.labels))]


def _named(source: Source, given: np.ndarray) -> np.ndarray:
    labels, places = number_classes(given)
    words = np.array([source.class_names.get(label, str(label)) for label in labels.tolist()])
    named: np.ndarray = words[places]
    return named


def compare(before: Diagnosis, after: Diagnosis, source: Source, other: Source) -> Comparison:
    """What changed between two diagnoses of the same rows, made with the same queries and seed."""
    first, second = _common(before.search, after.search)
    count = min(first.neighbors.shape[1], second.neighbors.shape[1])
    overlap = (first.neighbors[:, :count, None] == second.neighbors[:, None, :count]).any(axis=2)
    fresh = 1 - overlap.mean(axis=1)
    compared = Comparison(
        name=other.name,
        after=replace(after, against=None),
        recall_at={},
        map_at_r=None,
        thresholds=None,
        got_worse=np.empty(0, np.int64),
        got_better=np.empty(0, np.int64),
        classes_worse=(),
        new_neighbors=mean(fresh),
        moved=first.rows[np.argsort(-fresh, kind="stable")][: np.count_nonzero(fresh)],
        cka=_cka(source, other),
        numbers=_numbers(before, after),
    )
    if not before.ranked or not after.ranked:
        return compared
    assert before.labels is not None
    labels = before.labels
    known = ~(np.isnan(first.right) | np.isnan(second.right))
    first, second = _some(first, known), _some(second, known)
    of_query = labels[first.rows]
    hits = [labels[search.neighbors] == of_query[:, None] for search in (first, second)]
    was, now = (hit[:, 0] for hit in hits)
    worse = np.flatnonzero(was & ~now)
    worse = worse[np.argsort(second.right[worse] - second.wrong[worse], kind="stable")]
    ap = None
    if first.ap_at_r is not None and second.ap_at_r is not None:
        ap = _change(first.ap_at_r, second.ap_at_r, of_query)
    return compared._replace(
        recall_at={
            k: _change(_hits(hits[0], k), _hits(hits[1], k), of_query)
            for k in RECALL_AT
            if k <= count
        },
        map_at_r=ap,
        thresholds=_thresholds(source, other, labels),
        got_worse=first.rows[worse],
        got_better=first.rows[~was & now],
        classes_worse=_classes(of_query, was, now),
    )


def _common(before: Search, after: Search) -> tuple[Search, Search]:
    """The queries that both have: a row of zeros in one table is no query there."""
    rows = np.intersect1d(before.rows, after.rows)
    first, second = (_some(search, np.isin(search.rows, rows)) for search in (before, after))
    return first, second


def _some(search: Search, which: np.ndarray) -> Search:
    ap = search.ap_at_r
    return search._replace(
        rows=search.rows[which],
        groups=search.groups[which],
        neighbors=search.neighbors[which],
        similarity=search.similarity[which],
        right=search.right[which],
        wrong=search.wrong[which],
        ap_at_r=None if ap is None else ap[which],
    )


def _hits(hit: np.ndarray, k: int) -> Float64[np.ndarray, " queries"]:
    return np.asarray(hit[:, :k].any(axis=1), dtype=float)


def _change(
    before: Float64[np.ndarray, " queries"],
    after: Float64[np.ndarray, " queries"],
    labels: np.ndarray,
) -> Interval:
    """The mean change, with its interval over new queries of the same classes."""
    of = crossed((after - before)[None], drawn="queries within classes", classes=labels)
    found = crossed_interval(of)
    missing = "no query changes" if found.missing and found.mean == 0 else found.missing
    return found._replace(over="new queries of the same classes", missing=missing)


def _thresholds(source: Source, other: Source, labels: np.ndarray) -> Difference | None:
    groups = Classes.of(source).groups
    rows = draw_by_class(groups)
    if len(np.unique(groups[rows])) < 2:
        return None
    before, after = (directions_of(of, rows) for of in (source, other))
    numbered = torch.from_numpy(by_first_row(groups[rows]))
    return threshold_difference(before @ before.T, after @ after.T, numbered)


def _classes(labels: np.ndarray, was: np.ndarray, now: np.ndarray) -> tuple[ClassChange, ...]:
    classes, group, count = np.unique(labels, return_inverse=True, return_counts=True)
    before, after = (np.bincount(group, weights=hit) for hit in (was, now))
    order = np.argsort(after - before, kind="stable")[:MOST_CLASSES]
    return tuple(
        ClassChange(
            int(classes[n]), float(before[n] / count[n]), float(after[n] / count[n]), int(count[n])
        )
        for n in order.tolist()
        if after[n] < before[n]
    )


def _cka(source: Source, other: Source) -> float:
    """‖XᵀY‖² / (‖XᵀX‖·‖YᵀY‖) of centred directions of the same rows, a sample where there are many."""
    rows = draw(source.row_count, CKA_ROWS, 0)
    one, two = (_centered(directions_of(of, rows)) for of in (source, other))
    cross = float((one.T @ two).square().sum())
    own = float(torch.linalg.matrix_norm(one.T @ one) * torch.linalg.matrix_norm(two.T @ two))
    return cross / own if own else float("nan")


def _centered(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=0)


def _numbers(before: Diagnosis, after: Diagnosis) -> dict[str, tuple[float, float]]:
    both = {
        name: (getattr(before.geometry, name), getattr(after.geometry, name))
        for name in ("intra", "inter", "offset", "effective_rank", "uniformity")
    }
    if before.hubness is not None and after.hubness is not None:
        both["hubness skew"] = before.hubness.skew, after.hubness.skew
        both["never found"] = before.hubness.never_found, after.hubness.never_found
    if before.thresholds is not None and after.thresholds is not None:
        both["EER"] = before.thresholds.eer.mean, after.thresholds.eer.mean
    return {name: pair for name, pair in both.items() if not any(np.isnan(pair))}
