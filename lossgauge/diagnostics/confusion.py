"""Classes that are taken for each other: where the nearest row of a query has another class."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST_ROWS = 5
"""Rows to look at for each pair of classes."""


class ConfusedClasses(NamedTuple):
    """Two classes, and the queries of one whose nearest row is of the other."""

    label: int
    other: int
    queries: int
    """Queries of `label` whose nearest row is of `other`."""
    share: float
    """Of the queries of `label`, in (0, 1]."""
    back: int
    """Queries of `other` whose nearest row is of `label`. If it is 0, `other` may be the larger or the wider class."""
    rows: tuple[int, ...]
    """The queries to look at, the most certain first …"""
    nearest: tuple[int, ...]
    """… and the nearest row of each."""


def confused_classes(
    query_rows: Int[Tensor, " queries"],
    query_labels: Int[Tensor, " queries"],
    nearest: Int[Tensor, " queries"],
    nearest_labels: Int[Tensor, " queries"],
    similarity: Float[Tensor, " queries"],
    *,
    most: int = 10,
) -> list[ConfusedClasses]:
    """The `most` pairs of classes with the most wrong nearest rows, by count, then by label; empty without one.

    `similarity` is that of each query to its nearest row. Time grows as queries × log queries.
    """
    wrong = (query_labels != nearest_labels).nonzero().flatten()
    if not len(wrong):
        return []
    pairs = torch.stack([query_labels[wrong], nearest_labels[wrong]], dim=1)
    unique, pair, count = pairs.unique(dim=0, return_inverse=True, return_counts=True)
    of_pair = {
        (label, other): number
        for (label, other), number in zip(unique.tolist(), count.tolist(), strict=True)
    }
    labels, sizes = query_labels.unique(return_counts=True)
    size_of = dict(zip(labels.tolist(), sizes.tolist(), strict=True))
    found = []
    for place in torch.argsort(-count, stable=True)[:most].tolist():
        label, other = unique[place].tolist()
        queries = wrong[pair == place]
        queries = queries[torch.argsort(-similarity[queries], stable=True)]
        first = queries[:MOST_ROWS]
        found.append(
            ConfusedClasses(
                label=label,
                other=other,
                queries=int(count[place]),
                share=int(count[place]) / size_of[label],
                back=of_pair.get((other, label), 0),
                rows=tuple(query_rows[first].tolist()),
                nearest=tuple(nearest[first].tolist()),
            )
        )
    return found
