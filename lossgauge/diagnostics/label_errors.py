"""Labels that look wrong: rows whose neighbours agree with confidence on another class.

Confident learning (Northcutt, Jiang, Chuang 2021, arXiv 1911.00068) with the shares of the k nearest neighbours as probabilities:
another class is believed if its share reaches the share that rows of that class usually have. Three rules are added, because a
row on a border is no error: no neighbour has the row's own label, the row is inside the other class and not beside it, and that class
is a group at all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from lossgauge.errors import InputError

NEIGHBORS = 5
TOLERANCE = 0.15
"""Errors among the neighbours lower the shares: a share this far below the usual one is enough."""
INSIDE = 0.1
"""A row is inside a class if its mean similarity to its neighbours is not among this lowest share of that class."""
COHERENT = 0.2
"""A class is believed only if the share of its rows' neighbours with its label exceeds its frequency by this part of what is possible."""
LEAST_SIZE = 3
"""Rows of smaller classes are not judged: they have too few neighbours of their own class."""
_FEW_QUERIES = 5
"""Classes with fewer queries take the usual values of all."""


class LabelErrors(NamedTuple):
    """Rows whose label looks wrong, the most certain first."""

    row: Int64[Tensor, " suspects"]
    given: Int64[Tensor, " suspects"]
    """Their labels."""
    suggested: Int64[Tensor, " suspects"]
    """The class that their neighbours have."""
    confidence: Float64[Tensor, " suspects"]
    """Share of the neighbours with the suggested class, in (0.5, 1]."""
    row_count: int
    """Rows that were judged."""
    k: int
    """Neighbours of each."""

    @property
    def share(self) -> float:
        """Share of the judged rows that look wrong, in [0, 1]; 0 if none was judged."""
        return len(self.row) / self.row_count if self.row_count else 0.0


def label_errors(
    query_rows: Int[Tensor, " queries"],
    labels: Int[Tensor, " queries"],
    neighbor_labels: Int[Tensor, "queries k"],
    similarity: Float[Tensor, "queries k"],
    class_sizes: Int[Tensor, " queries"],
) -> LabelErrors:
    """Suspicious labels of queries, from the labels and similarities of their `k` nearest others.

    `class_sizes` is the number of rows with the label of each query. If more than half of the queries of a class are near one
    other class, the two are not separated, and none of them is named. Time grows as queries × (k² + log queries).
    """
    count, k = neighbor_labels.shape
    if k < 2:
        raise InputError(f"label errors need at least two neighbours of each row, got {k}")
    classes, every = torch.cat([labels, neighbor_labels.flatten()]).unique(return_inverse=True)
    own, around = every[:count], every[count:].reshape(count, k)
    share_own = (around == own[:, None]).double().mean(dim=1)
    share_other, suggested = _most_common_other(own, around)
    closeness = similarity.double().mean(dim=1)
    judged = class_sizes >= LEAST_SIZE
    usual_share, least_closeness = _usual(own, share_own, closeness, len(classes))
    suspect = judged & (share_own == 0)
    suspect &= share_other > 0.5
    suspect &= share_other >= usual_share[suggested] - TOLERANCE - 1e-12
    suspect &= closeness >= least_closeness[suggested]
    frequency = around.flatten().bincount(minlength=len(classes)) / around.numel()
    suspect &= (usual_share - frequency >= COHERENT * (1 - frequency))[suggested]
    suspect &= ~_not_separated(own, suggested, suspect, len(classes))
    rows = suspect.nonzero().flatten()
    rows = rows[torch.argsort(-closeness[rows], stable=True)]
    rows = rows[torch.argsort(-share_other[rows], stable=True)]
    return LabelErrors(
        row=query_rows[rows],
        given=labels[rows],
        suggested=classes[suggested[rows]],
        confidence=share_other[rows],
        row_count=int(judged.sum()),
        k=k,
    )


def _most_common_other(
    own: Int[Tensor, " queries"], around: Int[Tensor, "queries k"]
) -> tuple[Float64[Tensor, " queries"], Int[Tensor, " queries"]]:
    """The largest share of one class among the neighbours of another class than the query's, and that class.

    The nearer one of two with equal shares; share 0 if all neighbours have the query's class.
    """
    shares = (around[:, :, None] == around[:, None, :]).double().mean(dim=2)
    shares[around == own[:, None]] = 0
    share = shares.amax(dim=1)
    # argmax may return any of several equal ones
    first = (shares == share[:, None]).int().argmax(dim=1)
    return share, around.gather(1, first[:, None])[:, 0]


def _usual(
    own: Int[Tensor, " queries"],
    share: Float64[Tensor, " queries"],
    closeness: Float64[Tensor, " queries"],
    classes: int,
) -> tuple[Float64[Tensor, " classes"], Float64[Tensor, " classes"]]:
    """For each class: the mean share of own neighbours, and the closeness below which its lowest tenth lies."""
    size = own.bincount(minlength=classes)
    enough = size >= _FEW_QUERIES
    mean = torch.bincount(own, weights=share, minlength=classes) / size.clamp(min=1)
    order = torch.argsort(closeness, stable=True)
    order = order[torch.argsort(own[order], stable=True)]
    lowest = (size.cumsum(0) - size + (INSIDE * size).long()).clamp(max=len(own) - 1)
    all_lowest = closeness.sort().values[int(INSIDE * len(own))]
    return (
        torch.where(enough, mean, share.mean()),
        torch.where(enough, closeness[order][lowest], all_lowest),
    )


def _not_separated(
    own: Int[Tensor, " queries"],
    suggested: Int[Tensor, " queries"],
    suspect: Bool[Tensor, " queries"],
    classes: int,
) -> Bool[Tensor, " queries"]:
    """Suspects of a class more than half of which have the same suggested class."""
    size = own.bincount(minlength=classes)
    pair = own * classes + suggested
    _, place, count = pair[suspect].unique(return_inverse=True, return_counts=True)
    many = torch.zeros_like(suspect)
    many[suspect] = count[place] * 2 > size[own[suspect]]
    # of one or two queries, one suspect is no sign that the classes are not separated
    return many & (size[own] >= _FEW_QUERIES)
