"""Effective negatives: how many of an anchor's negatives do the pushing.

Chen et al. 2021 (FlatNCE), arXiv 2107.01152, for the effective sample size (Σw)²/Σw² of the weights of the negatives.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float64
from torch import Tensor

from lossgauge.types import PairGradient


class EffectiveNegatives(NamedTuple):
    """ESS = (Σ_n |G_in|)² / Σ_n G_in² over the negatives of an anchor: 1 if one does all the pushing, |N| if all push equally."""

    mean: float
    """Over the anchors with a push, in [1, |N|]; NaN if no anchor has one."""
    low: float
    """The 10 % quantile."""
    share: float
    """Mean of ESS / |N|, in (0, 1]."""
    negatives: float
    """Mean |N| of the same anchors."""
    silent_anchors: int
    """Rows whose negatives have no weight at all: they are in no mean."""
    per_row: Float64[Tensor, " rows"]
    """ESS of each row of the gradient; NaN for a silent one."""


def effective_negatives(of: PairGradient) -> EffectiveNegatives:
    """Effective negatives of a loss on a batch, from `lg.pair_gradient(loss, embeddings, labels)`. Linear in rows × columns."""
    weight = of.gradient.double().abs() * of.negative
    largest = weight.amax(dim=1, keepdim=True)
    weight = (
        weight / largest
    )  # squares of tiny weights would underflow; 0/0 is NaN: no weight, no number
    ess = weight.sum(dim=1).square() / weight.square().sum(dim=1)
    counts = of.negative.sum(dim=1).double()
    loud = ~ess.isnan()
    some = ess[loud]
    return EffectiveNegatives(
        mean=float(some.mean()),
        low=float(some.quantile(0.1)) if len(some) else float("nan"),
        share=float((some / counts[loud]).mean()),
        negatives=float(counts[loud].mean()),
        silent_anchors=int((~loud).sum()),
        per_row=ess,
    )
