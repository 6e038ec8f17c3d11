"""Distances between all pairs of class means, one block of classes at a time.

A squared distance is computed from a product of centred means, which cancels if two means are close. Such pairs
are computed again from the means themselves, so equal means have a distance of exactly 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

BLOCK_DISTANCES = 2**20
"""Distances held at a time: 8 MB."""

_CLOSE = 1e-4
"""Below this share of its two squared norms, a squared distance is computed from the means themselves."""
_CLOSE_PAIRS = 4096
"""The number of such pairs that are computed at a time."""


class Spacing(NamedTuple):
    """Statistics of the distances between class means; each pair counts once."""

    inter: float
    """Mean of the squared distances."""
    mean: float
    deviation: float
    """Standard deviation."""
    distance: Float64[Tensor, " classes"]
    """The distance from each class mean to the nearest other mean …"""
    nearest: Int64[Tensor, " classes"]
    """… and the index of that mean; the first one if several are equally near."""
    of_class: Float64[Tensor, " classes"]
    """Mean distance to the others."""
    cdnv: float
    """Mean over pairs of (intra + intra')/(2·distance²), for classes with a known intra; NaN without such a pair."""


def spacing(means: Float64[Tensor, "classes width"], intra: Float64[Tensor, " classes"]) -> Spacing:
    """Spacing of at least two class means; `intra` is NaN for a class of one sample.

    Time grows as classes² × width: about a second for 11,316 means of width 128, on one thread. Memory grows
    as classes × width.
    """
    count = len(means)
    centered = means - means[0]  # so that equal means become exactly 0
    centered -= centered.mean(dim=0)
    norms = torch.linalg.vecdot(centered, centered)
    inter = 2 * float(norms.sum()) / (count - 1)
    # deviations from the root mean square: they are small if the distances are similar
    usual = math.sqrt(inter)
    has_intra = ~intra.isnan()
    has, known = has_intra.double(), intra.nan_to_num(0)
    least, nearest = means.new_full((count,), torch.inf), torch.zeros_like(means[:, 0]).long()
    deviations, squares, ratios = means.new_zeros(count), 0.0, 0.0
    block = max(1, BLOCK_DISTANCES // count)
    for first in range(0, count, block):
        # these rows against the columns from `first` on: entries right of the square block count for both orders
        side = min(block, count - first)
        here, right, columns = (
            slice(first, first + side),
            slice(first + side, count),
            slice(first, count),
        )
        squared = torch.addmm(norms[columns], centered[here], centered[columns].T, alpha=-2)
        squared += norms[here, None]
        squared.diagonal().fill_(torch.inf)
        _recompute_close(squared, means[columns], norms[columns])
        _keep_nearest(least[here], nearest[here], squared.min(dim=1), first)
        if side < len(squared[0]):
            _keep_nearest(least[right], nearest[right], squared[:, side:].min(dim=0), first)
        inverse = squared.reciprocal()
        if not least[here].all():
            row, column = (squared == 0).nonzero(as_tuple=True)
            inverse[row, column] = 0
            both = (known[here][row] + known[columns][column])[
                has_intra[here][row] & has_intra[columns][column]
            ]
            ratios += float((both / 0).sum())
        ratios += float(has[here] @ (inverse @ known[columns]))
        ratios += float(known[here] @ (inverse[:, side:] @ has[right]))
        deviation = squared.sqrt_().sub_(usual)
        deviation.diagonal().fill_(0)
        deviations[here] += deviation.sum(dim=1)
        deviations[right] += deviation[:, side:].sum(dim=0)
        squares += 2 * _squared_norm(deviation) - _squared_norm(deviation[:, :side])
    of_all = float(deviations.sum()) / (count * (count - 1))
    pairs_with_intra = float(has.sum()) * (float(has.sum()) - 1)
    return Spacing(
        inter=inter,
        mean=usual + of_all,
        deviation=math.sqrt(max(0.0, squares / (count * (count - 1)) - of_all**2)),
        distance=least.sqrt(),
        nearest=nearest,
        of_class=usual + deviations / (count - 1),
        cdnv=ratios / pairs_with_intra if pairs_with_intra else math.nan,
    )


def _recompute_close(
    squared: Float64[Tensor, "rows columns"],
    means: Float64[Tensor, "columns width"],
    norms: Float64[Tensor, " columns"],
) -> None:
    """Squared distances of close pairs from their differences, in place; the rows are the first of `means`."""
    own = norms[: len(squared)]
    # the norms of a close pair are nearly equal
    suspects = (squared.amin(dim=1) < 3 * _CLOSE * own).nonzero().flatten()
    close = squared[suspects] < _CLOSE * (own[suspects, None] + norms)
    at, column = close.nonzero(as_tuple=True)
    for row, other in zip(
        suspects[at].split(_CLOSE_PAIRS), column.split(_CLOSE_PAIRS), strict=True
    ):
        difference = means[row] - means[other]
        squared[row, other] = torch.linalg.vecdot(difference, difference)


def _keep_nearest(
    least: Float64[Tensor, " classes"],
    nearest: Int64[Tensor, " classes"],
    block_minimum: tuple[Tensor, Tensor],
    first: int,
) -> None:
    """Update the nearest distance and its index in place, where the new one is nearer; `first` offsets the indices."""
    values, places = block_minimum
    nearer = values < least
    least[nearer] = values[nearer]
    nearest[nearer] = places[nearer] + first


def _squared_norm(matrix: Float64[Tensor, "rows columns"]) -> float:
    return float(torch.linalg.vector_norm(matrix)) ** 2
