"""The measures of pairs of rows, from a search or from a sample of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lossgauge.diagnosis.sampling import (
    HUBNESS_ROWS,
    HUBNESS_SAMPLES,
    by_first_row,
    draw,
    draw_by_class,
    number_classes,
)
from lossgauge.diagnosis.search import Search, search_all
from lossgauge.diagnosis.source import Source
from lossgauge.diagnostics.confusion import ConfusedClasses, confused_classes
from lossgauge.diagnostics.hubness import Hubness, hubness
from lossgauge.diagnostics.label_errors import NEIGHBORS as LABEL_NEIGHBORS
from lossgauge.diagnostics.label_errors import LabelErrors, label_errors
from lossgauge.diagnostics.open_set import OpenSet, open_set
from lossgauge.diagnostics.thresholds import Thresholds, thresholds
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.stats.intervals import Interval, interval

LEAST_ROWS = 20
"""With fewer rows, hubness and label errors say nothing."""


class Classes(NamedTuple):
    """The classes of the rows."""

    labels: Int64[np.ndarray, " classes"]
    groups: Int64[np.ndarray, " rows"]
    """For each row the place of its label in `labels`; 0 without labels; −1 for a row of zeros, once it is known."""
    usable: bool
    """Whether there are two classes, and two rows of one of them."""

    @classmethod
    def of(cls, source: Source) -> Classes:
        if source.labels is None:
            return cls(np.zeros(1, np.int64), np.zeros(source.row_count, np.int64), False)
        labels, groups = number_classes(source.labels)
        return cls(labels, groups, 1 < len(labels) < source.row_count)


def directions_of(source: Source, rows: np.ndarray) -> Float64[Tensor, "rows width"]:
    return norms_and_directions(source.rows(rows))[1]


def thresholds_of(source: Source, classes: Classes, seed: int) -> Thresholds | None:
    rows = draw_by_class(classes.groups, seed=seed)
    groups = torch.from_numpy(by_first_row(classes.groups[rows]))
    if len(groups.unique()) < 2:
        return None
    directions = directions_of(source, rows)
    return thresholds(directions @ directions.T, groups, seed=seed)


def open_set_of(search: Search) -> OpenSet | None:
    known = ~(np.isnan(search.right) | np.isnan(search.wrong))
    return open_set(search.right[known], search.wrong[known]) if known.any() else None


def hubness_of(
    source: Source, search: Search, keep: np.ndarray, *, every: bool, seed: int
) -> tuple[Hubness | None, dict[str, Interval]]:
    if keep.sum() < LEAST_ROWS:
        return None, {}
    if every:
        return _hubness_of(search), {}
    known = np.flatnonzero(keep)
    samples = []
    for number in range(HUBNESS_SAMPLES):
        rows = known[draw(len(known), HUBNESS_ROWS, seed + 1 + number)]
        nothing = np.zeros(len(rows), np.int64)
        samples.append(_hubness_of(search_all(directions_of(source, rows), rows, nothing)))
    over = {}
    for name in ("skew", "never_found"):
        found = interval([getattr(sample, name) for sample in samples])
        if found is not None:
            over[name] = found._replace(over=f"new samples of {samples[0].row_count:,} rows")
    most = max(samples, key=lambda sample: sample.most_found)
    skew, never = (
        over[name].mean if name in over else math.nan for name in ("skew", "never_found")
    )
    return most._replace(skew=skew, never_found=never), over


def _hubness_of(search: Search) -> Hubness:
    """Of a search of rows among each other; `most_found_row` is a number in the file."""
    found = hubness(torch.from_numpy(np.searchsorted(search.rows, search.neighbors)))
    return found._replace(most_found_row=int(search.rows[found.most_found_row]))


def label_errors_of(search: Search, classes: Classes) -> LabelErrors | None:
    k = min(LABEL_NEIGHBORS, search.neighbors.shape[1])
    if k < 2 or search.searched < LEAST_ROWS or not len(search.rows):
        return None
    sizes = np.bincount(classes.groups[classes.groups >= 0], minlength=len(classes.labels))
    found = label_errors(
        torch.from_numpy(search.rows),
        torch.from_numpy(search.groups),
        torch.from_numpy(classes.groups[search.neighbors[:, :k]]),
        torch.from_numpy(search.similarity[:, :k].copy()),
        torch.from_numpy(sizes[search.groups]),
    )
    labels = torch.from_numpy(classes.labels)
    return found._replace(given=labels[found.given], suggested=labels[found.suggested])


def confused_of(search: Search, classes: Classes) -> Sequence[ConfusedClasses]:
    if not search.neighbors.shape[1]:
        return ()
    nearest = search.neighbors[:, 0]
    return confused_classes(
        torch.from_numpy(search.rows),
        torch.from_numpy(classes.labels[search.groups]),
        torch.from_numpy(nearest.copy()),
        torch.from_numpy(classes.labels[classes.groups[nearest]]),
        torch.from_numpy(search.similarity[:, 0].copy()),
    )
