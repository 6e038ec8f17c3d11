"""Which rows are searched for, and which are compared in pairs: all where that is fast, else a sample with a seed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

SEARCH_BUDGET = 2**36
"""Pairs × width of a search that takes some seconds."""
LEAST_QUERIES = 128
"""A share of one half is known to 9 points. More would take longer than the disk takes to give 10 million rows."""
THRESHOLD_ROWS = 1000
"""Rows whose pairs have thresholds: half a million pairs, of which 1 in 1,000 are still 500."""
ROWS_PER_CLASS = 5
HUBNESS_ROWS, HUBNESS_SAMPLES = 2000, 5
_MOST_SORTED = 200_000


def query_count(rows: int, width: int, asked: int | None) -> int:
    """How many rows are searched for among all: all of them where the search stays within the budget."""
    if asked is not None:
        return min(asked, rows)
    within = SEARCH_BUDGET // (rows * width)
    return min(rows, max(within, LEAST_QUERIES))


def draw(rows: int, count: int, seed: int) -> Int64[np.ndarray, " count"]:
    """The numbers of some rows, ascending; all where there are no more."""
    if count >= rows:
        return np.arange(rows)
    drawn: np.ndarray = np.random.default_rng(seed).choice(rows, count, replace=False)
    return np.sort(drawn)


def draw_by_class(
    groups: Int64[np.ndarray, " rows"], *, count: int = THRESHOLD_ROWS, seed: int = 0
) -> Int64[np.ndarray, " some"]:
    """About `count` rows, ascending: equally many of each class, and at least five of each that is drawn, where it has them.

    Classes of one row are left out: they have no pair of one class. Groups below 0 are left out too. Which rows are drawn
    depends on the order of the rows, not on the numbers of the groups.
    """
    generator = np.random.default_rng(seed)
    groups = by_first_row(groups)
    sizes = np.bincount(groups[groups >= 0])
    classes = np.flatnonzero(sizes > 1)
    if not len(classes):
        return np.empty(0, np.int64)
    per_class = max(ROWS_PER_CLASS, count // len(classes))
    chosen = np.zeros(len(sizes) + 1, dtype=bool)  # one more: group −1 is the last entry
    chosen[generator.permutation(classes)[: max(2, count // per_class)]] = True
    rows = np.flatnonzero(chosen[groups])
    if len(rows) > _MOST_SORTED:
        rows = np.sort(generator.choice(rows, _MOST_SORTED, replace=False))
    rows = generator.permutation(rows)
    order = np.argsort(groups[rows], kind="stable")
    rows, of = rows[order], groups[rows][order]
    starts = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    drawn: np.ndarray = np.sort(rows[place < per_class])
    return drawn


def by_first_row(groups: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """The same groups, numbered from 0 in the order of their first rows; those below 0 stay −1. Linear in rows."""
    known = np.flatnonzero(groups >= 0)
    if not len(known):
        return groups
    first = np.full(int(groups.max()) + 1, len(groups))
    first[groups[known[::-1]]] = known[::-1]  # of several writes to one place, the last one stays
    number = np.empty(len(first) + 1, np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    number[-1] = -1
    numbered: np.ndarray = number[np.maximum(groups, -1)]
    return numbered


def number_classes(
    labels: Int64[np.ndarray, " rows"],
) -> tuple[Int64[np.ndarray, " classes"], Int64[np.ndarray, " rows"]]:
    """The labels in ascending order, and the place of each row's label among them. Linear for labels in a narrow range."""
    low, high = int(labels.min()), int(labels.max())
    if high - low < 4 * len(labels):
        there = np.zeros(high - low + 1, dtype=bool)
        there[labels - low] = True
        return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[labels - low]
    classes, groups = np.unique(labels, return_inverse=True)
    return classes, groups.astype(np.int64)
