"""Copies: rows with the same numbers, inside a class, between classes, and on both sides of a split.

A copy inside a class makes retrieval look better than it is; between classes, one of the two labels is wrong; on both sides
of a split, the test repeats the training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor


class Copies(NamedTuple):
    """Rows that are equal to an earlier row."""

    row: Int64[Tensor, " copies"]
    """Ascending."""
    of: Int64[Tensor, " copies"]
    """The first row with the same numbers."""
    inside_classes: int | None
    """Copies of an earlier row of their own class; None without labels."""
    between_classes: int | None
    """Copies of an earlier row of another class; None without labels. A row may be a copy of both kinds."""
    across_split: int | None
    """Test rows that are equal to a training row; None without a split."""
    by_class: dict[int, int]
    """Label → copies inside that class, for classes that have some."""
    row_count: int
    """Rows that were compared."""

    @property
    def share(self) -> float:
        """Share of rows that are a copy of an earlier one, in [0, 1]."""
        return len(self.row) / self.row_count


def copies(
    hashes: Int64[Tensor, " rows"],
    labels: Int[Tensor, " rows"] | None = None,
    trains: Bool[Tensor, " rows"] | None = None,
) -> Copies:
    """Copies among rows with these hashes: rows are equal if their hashes are. Time grows as rows × log rows.

    Of n rows with 64-bit hashes, two that differ have the same hash with a probability of about n²/2⁶⁵.
    """
    count = len(hashes)
    ordered = np.sort(hashes.numpy())
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    rows, group, first = _groups(hashes.numpy(), repeated)
    row = torch.from_numpy(rows[rows != first[group]])
    of = torch.from_numpy(first[group][rows != first[group]])
    inside = between = across = None
    by_class: dict[int, int] = {}
    if labels is not None:
        given = labels.numpy()[rows]
        same = _has_earlier_of_its_class(group, given)
        differs = given != labels.numpy()[first[group]]
        other = np.full(len(repeated), count)
        np.minimum.at(other, group[differs], rows[differs])  # the first row with a second label
        inside, between = int(same.sum()), int((differs | (other[group] < rows)).sum())
        label, size = np.unique(given[same], return_counts=True)
        by_class = dict(zip(label.tolist(), size.tolist(), strict=True))
    if trains is not None:
        trained = np.zeros(len(repeated), dtype=bool)
        trained[group[trains.numpy()[rows]]] = True
        across = int((trained[group] & ~trains.numpy()[rows]).sum())
    return Copies(row, of, inside, between, across, by_class, count)


def _groups(
    hashes: Int64[np.ndarray, " rows"], repeated: Int64[np.ndarray, " groups"]
) -> tuple[Int64[np.ndarray, " some"], Int64[np.ndarray, " some"], Int64[np.ndarray, " groups"]]:
    """The rows with one of the repeated hashes, ascending, the group of each, and the first row of each group."""
    if not len(repeated):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    place = np.searchsorted(repeated, hashes).clip(max=len(repeated) - 1)
    rows = np.flatnonzero(repeated[place] == hashes)
    group = place[rows]
    first = np.full(len(repeated), len(hashes))
    np.minimum.at(first, group, rows)
    return rows, group, first


def _has_earlier_of_its_class(
    group: Int64[np.ndarray, " some"], labels: Int[np.ndarray, " some"]
) -> Bool[np.ndarray, " some"]:
    """Whether an earlier row of the same group has the same label."""
    order = np.lexsort((labels, group))  # stable: rows of one group and label keep their order
    by_group, by_label = group[order], labels[order]
    earlier = np.zeros(len(group), dtype=bool)
    earlier[order[1:]] = (by_group[1:] == by_group[:-1]) & (by_label[1:] == by_label[:-1])
    return earlier
