"""Smooth-AP: one minus the average precision of each query, with a sigmoid in place of each comparison of ranks.

Brown et al. 2020. A term is a query i with a positive, of value
1 − (1/|P|) Σ_{p∈P} (1 + Σ_{j∈P, j≠p} σ(Δ_jp/τ)) / (1 + Σ_{j≠p} σ(Δ_jp/τ)), Δ_jp = s_ij − s_ip. The query itself is not in its own ranking, as in
retrieval; the published code counts it, which `include_self` does too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting, true_or_false

LIVE = 2 * math.acosh(10)
"""Where |Δ|/τ is smaller, the sigmoid is live: its slope is above 1 % of that at 0 (our choice, the share of the gradient rule)."""


def smooth_ap_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
    include_self: bool,
    tolerance: float,
) -> Terms:
    """Terms over queries, from comparisons of each positive with all columns: as many at a time as the matrix has rows.

    W is the share of the pairs (positive, negative) with a live sigmoid, of those that are not satisfied. Where it is low, most wrong
    pairs are so far apart that they have no gradient. 0 if all pairs are satisfied.
    """
    valid = positive.any(dim=1)
    ranked = positive
    if include_self and positive.shape[0] == positive.shape[1]:
        itself = torch.eye(len(positive), dtype=torch.bool, device=positive.device)
        ranked = positive | itself & ~negative
    share = 1 / ranked.sum(dim=1).clamp(min=1).to(similarity.dtype)
    value, live, unsatisfied = similarity.new_zeros(3, len(similarity))
    gradient = torch.zeros_like(similarity)
    pairs = (ranked & valid[:, None]).nonzero()
    for part in pairs.split(max(1, len(similarity))):
        query, own = part.unbind(dim=1)
        found = _comparisons(
            similarity[query], own, ranked[query], negative[query], temperature=temperature
        )
        value.index_add_(0, query, found.value * share[query])
        live.index_add_(0, query, found.live)
        unsatisfied.index_add_(0, query, found.unsatisfied)
        gradient.index_add_(0, query, found.gradient.mul_(share[query, None]))
    return Terms(
        value=value,
        counts=valid.long(),
        active=(value > tolerance).long(),
        weight=live / unsatisfied.clamp(min=1),
        gradient=gradient,
    )


class _Comparisons(NamedTuple):
    """One positive of a query with all columns, in each row."""

    value: Float[Tensor, " pairs"]
    live: Float[Tensor, " pairs"]
    unsatisfied: Float[Tensor, " pairs"]
    gradient: Float[Tensor, "pairs columns"]


def _comparisons(
    similarity: Float[Tensor, "pairs columns"],
    own: Int[Tensor, " pairs"],
    positive: Bool[Tensor, "pairs columns"],
    negative: Bool[Tensor, "pairs columns"],
    *,
    temperature: float,
) -> _Comparisons:
    """1 − right/rank of each positive, whose column is `own`."""
    own = own[:, None]
    x = (similarity - similarity.gather(1, own)).div_(temperature)
    sigmoid = x.sigmoid()
    slope = (1 - sigmoid).mul_(sigmoid).div_(temperature)
    wrong = sigmoid.mul(negative).sum(dim=1, keepdim=True)
    # the positive itself has σ(0) = ½, and counts as 1
    right = sigmoid.mul_(positive).sum(dim=1, keepdim=True) + 0.5
    rank = right + wrong
    force = torch.where(negative, right / rank.square(), -wrong / rank.square())
    force.mul_(slope).mul_(positive | negative).scatter_(1, own, 0)
    gradient = force.scatter_(1, own, -force.sum(dim=1, keepdim=True))
    return _Comparisons(
        # as a quotient it keeps its digits where it is tiny
        value=(wrong / rank)[:, 0],
        live=(negative & (x.abs() < LIVE)).sum(dim=1).to(x.dtype),
        unsatisfied=(negative & (x > -LIVE)).sum(dim=1).to(x.dtype),
        gradient=gradient,
    )


class SmoothAP(PairLoss):
    """Smooth-AP over dot products of the embeddings; normalise them first for cosines. Time grows as batch² × positives."""

    group = "other"
    aliases = ("smooth_average_precision",)

    matrix = DOT_PRODUCTS
    temperature: float = setting(
        default=0.01, check=above_zero, search=SearchRange(0.001, 0.1, log=True)
    )
    include_self: bool = setting(default=False, check=true_or_false, tunable=False)

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return smooth_ap_terms(
            matrix,
            positive,
            negative,
            temperature=self.temperature,
            include_self=self.include_self,
            tolerance=self.tolerance,
        )

    def kernel(self) -> KernelSpec:
        from lossgauge.kernels.smooth_ap import smooth_ap_rows

        return KernelSpec(
            smooth_ap_rows,
            (self.temperature, self.tolerance),
            counts=lambda positives, negatives: (positives > 0).long(),
            further=(
                float(self.include_self),
                LIVE,
            ),
        )
