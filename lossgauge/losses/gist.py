"""GIST: multiple negatives ranking without the negatives that a guide ranks above the positive.

Solatorio 2024, arXiv 2402.16829 (sentence-transformers' GISTEmbedLoss, queries against documents only). The guide is a frozen model; here it
is given by its similarities. A term is a positive pair (query, document) of value softplus(v), v = log Σ e^{s_n/τ} − s_p/τ over the negatives
with guide_n ≤ guide_p − margin: above that they are probably right documents without a judgement.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Near, Terms
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, one_of, setting, zero_or_more

MASKED = "masked_negative_ratio"


def guided_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    limit: Float[Tensor, "rows columns"],
    guide: Float[Tensor, "rows columns"],
    *,
    temperature: float,
    tolerance: float,
) -> Terms:
    """Terms over (row, positive) pairs, each against the negatives of its row whose `guide` is at most the positive's `limit`.

    Each row is sorted by these numbers, so that the negatives of a positive are those before it: the sums over them are
    cumulative, and no cube of rows × positives × negatives is stored.
    """
    key = torch.where(positive, limit, guide).masked_fill_(~(positive | negative), torch.inf)
    # of equal keys the negatives first: they are kept
    order = positive.byte().argsort(dim=1, stable=True)
    order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    logits = (similarity / temperature).gather(1, order)
    is_positive, is_negative = positive.gather(1, order), negative.gather(1, order)
    negatives = logits.masked_fill(~is_negative, -torch.inf)
    kept = negatives.logcumsumexp(dim=1)
    v = kept.clamp(min=torch.finfo(logits.dtype).min / 4) - logits
    value = torch.logaddexp(v, v.new_zeros(())).mul_(is_positive)
    weight = v.sigmoid().mul_(is_positive)
    # a negative gets W·e^{s/τ − kept} from each positive behind it
    pushes = torch.nn.functional.logsigmoid(v).sub_(kept)
    pushes.masked_fill_(~(is_positive & (kept > -torch.inf)), -torch.inf)
    behind = pushes.flip(1).logcumsumexp(dim=1).flip(1)
    force = (negatives + behind).exp_().sub_(weight).div_(temperature)
    counts = positive.sum(dim=1)
    all_negatives = int((counts * negative.sum(dim=1)).sum())
    kept_negatives = int((is_negative.cumsum(dim=1) * is_positive).sum())
    masked = 1 - kept_negatives / all_negatives if all_negatives else float("nan")
    return Terms(
        value=value.sum(dim=1),
        counts=counts,
        active=(value > tolerance).sum(dim=1),
        weight=weight.sum(dim=1),
        gradient=torch.empty_like(force).scatter_(1, order, force),
        columns={MASKED: masked},
    )


class GIST(PairLoss):
    """GIST over dot products of queries and documents; normalise the rows first for cosines.

    `margin_strategy="relative"` takes guide_p − |guide_p|·margin as the limit. The evaluation has the share of (positive, negative)
    combinations that are masked, `masked_negative_ratio`.
    """

    group = "other"
    aliases = ("gist_embed",)
    near = (
        Near(
            "cached_gist_embed",
            differs="it compares queries with documents only, and needs the guide's similarities",
        ),
    )
    columns = (MASKED,)
    square_form = False
    needs_guide = True

    matrix = DOT_PRODUCTS
    temperature: float = setting(
        default=0.01, check=above_zero, search=SearchRange(0.005, 0.5, log=True)
    )
    margin: float = setting(default=0.0, check=zero_or_more, search=SearchRange(0.0, 0.2))
    margin_strategy: str = setting(
        default="absolute", check=one_of("absolute", "relative"), tunable=False
    )

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
        guide: Float[Tensor, "rows columns"] | None = None,
    ) -> Terms:
        guide = matrix if guide is None else guide
        below = guide.abs() * self.margin if self.margin_strategy == "relative" else self.margin
        return guided_terms(
            matrix,
            positive,
            negative,
            guide - below,
            guide,
            temperature=self.temperature,
            tolerance=self.tolerance,
        )
