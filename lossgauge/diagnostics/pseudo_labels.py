"""Pseudo-labels: what the labelled rows say about the others, by two rules that should agree.

Semi-supervised co-calibration: a row gets a pseudo-label where its nearest labelled rows and its nearest class mean give it the same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.diagnostics.directional_cdnv import class_means
from lossgauge.diagnostics.nearest_class_mean import nearest_mean
from lossgauge.diagnostics.scale import power_of_two
from lossgauge.errors import InputError

K = 5
BLOCK_DISTANCES = 2**21
"""Distances from unlabelled to labelled rows that are held at a time: 16 MB."""


@dataclass(frozen=True)
class PseudoLabels:
    """Labels of the unlabelled rows. Shares are of these rows, in [0, 1]; accuracies are None if their classes are not known."""

    by_neighbors: Int64[Tensor, " rows"]
    """The class of most of the k nearest labelled rows; of several, the one whose nearest row is nearer."""
    by_means: Int64[Tensor, " rows"]
    """The class whose mean is nearest."""
    votes: Float64[Tensor, " rows"]
    """Share of the k nearest with the class of `by_neighbors`."""
    accepted: Bool[Tensor, " rows"]
    """Both rules give one class, and its votes are enough."""
    agreement: float
    """Share of rows for which both rules give one class; by chance about 1/C."""
    coverage: float
    """Share of rows that are accepted: at most `agreement`."""
    accuracy: float | None
    """Share of right labels among the accepted rows: worth more than the two below. NaN if no row is accepted."""
    neighbor_accuracy: float | None
    """Share of right labels of `by_neighbors`, among all rows …"""
    mean_accuracy: float | None
    """… and of `by_means`."""


def pseudo_labels(
    labelled: Sequence[ArrayLike],
    unlabelled: Sequence[ArrayLike] | ArrayLike,
    *,
    k: int = K,
    least_votes: float = 0.0,
) -> PseudoLabels:
    """Pseudo-labels from `labelled=(embeddings, labels)` for `unlabelled`: embeddings, or a pair with their true labels to measure with.

    Nearest by Euclidean distance, without normalising; with fewer than k labelled rows all of them vote. Computed in float64. Time
    grows as labelled × unlabelled × width, memory as a block of distances. Raises InputError for a batch that is empty or not finite, widths that
    differ, fewer than two classes, a true class without a labelled row, k below 1, and votes outside of [0, 1].
    """
    given = unlabelled if isinstance(unlabelled, tuple) else (unlabelled, None)
    if not isinstance(labelled, tuple | list) or len(labelled) != 2 or len(given) != 2:
        raise InputError(
            "give labelled=(embeddings, labels), and unlabelled embeddings or such a pair"
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k must be a whole number of at least 1, got {k!r}")
    if not 0 <= least_votes <= 1:
        raise InputError(f"least_votes must be a share from 0 to 1, got {least_votes}")
    known, labels = _side("labelled", *labelled)
    rows, truth = _side("unlabelled", *given)
    if known.shape[1] != rows.shape[1]:
        raise InputError(
            f"labelled and unlabelled rows must have one width, got {known.shape[1]} and {rows.shape[1]}"
        )
    classes, group = labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"pseudo-labels need at least two classes, got only label {int(classes[0])}"
        )
    if given[1] is not None:
        missing = truth[~torch.isin(truth, classes)].unique()
        if len(missing):
            raise InputError(
                f"each class needs a labelled row, but {len(missing)} of the unlabelled rows' classes have none, "
                f"the first is {int(missing[0])}; label more rows, or leave these classes out"
            )
    unit = max(power_of_two(known), power_of_two(rows))
    known, rows = known / unit, rows / unit
    middle = known.mean(dim=0)  # squares of small distances far from the origin would cancel
    known, rows = known - middle, rows - middle
    by_neighbors, votes = _by_neighbors(known, group, rows, k=min(k, len(known)))
    by_means = nearest_mean(rows, class_means(known, group))
    agree = by_neighbors == by_means
    accepted = agree & (votes >= least_votes)
    right: list[float | None] = [None] * 3
    if given[1] is not None:
        of_neighbors, of_means = (classes[of] == truth for of in (by_neighbors, by_means))
        right = [_share(of_neighbors[accepted]), _share(of_neighbors), _share(of_means)]
    return PseudoLabels(
        classes[by_neighbors],
        classes[by_means],
        votes,
        accepted,
        _share(agree),
        _share(accepted),
        *right,
    )


def _by_neighbors(
    known: Float64[Tensor, "labelled width"],
    group: Int[Tensor, " labelled"],
    rows: Float64[Tensor, "rows width"],
    *,
    k: int,
) -> tuple[Int64[Tensor, " rows"], Float64[Tensor, " rows"]]:
    """The class number with the most votes among the `k` nearest, and its share of them."""
    half = torch.linalg.vecdot(known, known) / 2
    numbers, votes = [], []
    for block in rows.split(max(1, BLOCK_DISTANCES // max(len(known), k * k))):
        nearest = (half - block @ known.T).topk(k, dim=1, largest=False).indices
        around = group[nearest]
        counts = (around[:, :, None] == around[:, None, :]).sum(dim=2)
        most = counts.amax(dim=1)
        # argmax may return any of several equal ones
        first = (counts == most[:, None]).int().argmax(dim=1)
        numbers.append(around.gather(1, first[:, None])[:, 0])
        votes.append(most.double() / k)
    return torch.cat(numbers), torch.cat(votes)


def _side(
    name: str, embeddings: ArrayLike, labels: ArrayLike | None
) -> tuple[Float64[Tensor, "rows width"], Int64[Tensor, " rows"]]:
    try:
        # without labels, zeros take their place and are not used
        given = np.zeros(np.shape(embeddings)[:1], np.int64) if labels is None else labels
        rows, numbers = as_batch(embeddings, given)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return rows.detach().double(), numbers


def _share(which: Bool[Tensor, " some"]) -> float:
    return float(which.double().mean())
