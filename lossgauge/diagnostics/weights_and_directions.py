"""Weight and direction: do two losses differ in how strongly they update an anchor, or in where they send it?

arXiv 2510.14824 (fine-tuning for reranking). A row of G is split into its strength W_i and its direction G_i / Σ_j |G_ij|.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from scipy.stats import rankdata
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.types import PairGradient


class LossPair(NamedTuple):
    """Two losses on the same batch."""

    first: str
    second: str
    direction: float
    """Mean over rows of the cosine of their directions, in [−1, 1]; NaN if in each row one of them is silent."""
    weight: float
    """Spearman's rank correlation of W over the same rows, in [−1, 1]; NaN if one of them does not vary."""
    head: float | None
    """Cosine of their gradients at the head; None if they are not given."""
    row_count: int
    """Rows in which both have a gradient."""


def weights_and_directions(
    losses: Mapping[str, PairGradient], *, at_head: Mapping[str, Tensor] | None = None
) -> list[LossPair]:
    """A row for each pair of losses, from their `lg.pair_gradient` on the same batch. Linear in rows × columns for each pair.

    Rows are anchors, or positive pairs (`per_pair`). info_nce and nscl have the same directions per pair, but not per anchor: an anchor with
    several positives weights them. A gradient at squared distances is compared with its sign reversed, which is right on the unit sphere
    (D² = 2 − 2s). Raises InputError for fewer than two losses, and for gradients of other rows.
    """
    if len(losses) < 2:
        raise InputError(
            f"weights and directions compare losses and need at least two, got {list(losses)}"
        )
    one = next(iter(losses.values()))
    for name, other in losses.items():
        if not (
            torch.equal(one.anchor, other.anchor) and torch.equal(one.positive, other.positive)
        ):
            raise InputError(
                f"the gradients must be of one batch, all per anchor or all per pair, but {name!r} has "
                f"{len(other.anchor)} other rows than {next(iter(losses))!r} with {len(one.anchor)}"
            )
    if at_head is not None and set(at_head) != set(losses):
        raise InputError(
            f"at_head must have a gradient for each loss, {', '.join(losses)}, got {', '.join(at_head) or 'none'}"
        )
    return [
        _compared(first, second, losses, at_head)
        for first, second in itertools.combinations(losses, 2)
    ]


def _compared(
    first: str,
    second: str,
    losses: Mapping[str, PairGradient],
    at_head: Mapping[str, Tensor] | None,
) -> LossPair:
    a, b = losses[first], losses[second]
    both = (a.weight > 0) & (b.weight > 0)
    cosine = torch.nn.functional.cosine_similarity(_unit(a)[both], _unit(b)[both])
    head = None
    if at_head is not None:
        of_a, of_b = (at_head[name].detach().double().flatten() for name in (first, second))
        head = _ratio(float(of_a @ of_b), float(of_a.norm() * of_b.norm()))
    return LossPair(
        first,
        second,
        direction=float(cosine.mean()),
        weight=_rank_correlation(a.weight[both], b.weight[both]),
        head=head,
        row_count=int(both.sum()),
    )


def _unit(of: PairGradient) -> Tensor:
    gradient = of.gradient.double()
    largest = gradient.abs().amax(dim=1, keepdim=True)
    unit = gradient / torch.where(largest > 0, largest, 1)
    return -unit if of.is_distance else unit


def _rank_correlation(first: Tensor, second: Tensor) -> float:
    if len(first) < 2:
        return math.nan
    # equal weights differ by rounding, which has no order
    rounded = [(weight / weight.max()).cpu().numpy().round(12) for weight in (first, second)]
    ranks = [torch.from_numpy(rankdata(weight)) for weight in rounded]
    a, b = (rank - rank.mean() for rank in ranks)
    return _ratio(float(a @ b), float(a.norm() * b.norm()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
