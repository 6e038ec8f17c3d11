"""Label-blind gap: how much a softmax loss changes if it does not know which of the other samples are positives.

Luthra, Yang, Galanti 2025, arXiv 2506.04411: without labels, the other positives of an anchor are in the denominator as if they were negatives.
For an ordered positive pair (i, p), the gap is log(1 + Σ_{k ∈ P(i), k ≠ p} e^{s_ik/τ} / Σ_{n ∈ N(i)} e^{s_in/τ}).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.errors import InputError

BLOCK_SIMILARITIES = 2**21
"""Similarities held at a time: 16 MB."""
LEAST_BOUNDED = 0.5
"""Below this temperature the bound is far above the gap: e^{2/τ} is 55 at 0.5 and 5e8 at 0.1."""


class LabelBlindGap(NamedTuple):
    """In units of the loss; the mean over ordered positive pairs."""

    gap: float
    """At least 0; 0 where each anchor has one positive. Small: labels hardly change the loss."""
    bound: float | None
    """Mean of log(1 + (|P|−1)/|N| · e^{2/τ}), which holds for unit vectors; None for temperatures below 0.5 and longer rows."""
    pair_count: int
    skipped_anchors: int
    """Rows without a positive."""


def label_blind_gap(
    embeddings: ArrayLike, labels: ArrayLike, *, temperature: float = 0.1
) -> LabelBlindGap:
    """The gap over dot products of the rows; normalise them first for cosines. Computed in float64.

    Time grows as rows² × width, memory as blocks of rows × rows. Raises InputError for a batch that is empty or not finite, one class, no class
    with two rows, and a temperature that is not positive.
    """
    rows, numbers = as_batch(embeddings, labels)
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature must be positive and finite, got {temperature}")
    classes, group, sizes = numbers.unique(return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"a gap needs negatives, got only label {int(classes[0])}")
    pairs = int((sizes * (sizes - 1)).sum())
    if not pairs:
        raise InputError(
            f"a gap needs positives, but each of the {len(rows)} classes has only one row"
        )
    exact = rows.detach().double()
    order = group.argsort(stable=True)
    total, first = 0.0, 0
    for size in sizes.tolist():
        if size > 1:
            total += _of_class(exact, order[first : first + size], group, temperature)
        first += size
    bound = None
    longest = float(torch.linalg.vector_norm(exact, dim=1).max())
    if temperature >= LEAST_BOUNDED and longest <= 1 + 1e-6:
        # |P| is the class without the anchor, so |P| − 1 other positives
        others = (sizes - 2).clamp(min=0) / (len(rows) - sizes).double() * math.exp(2 / temperature)
        bound = float((others.log1p() * sizes * (sizes - 1)).sum()) / pairs
    return LabelBlindGap(total / pairs, bound, pairs, int((sizes == 1).sum()))


def _of_class(
    rows: Float64[Tensor, "rows width"],
    members: Int[Tensor, " members"],
    group: Int[Tensor, " rows"],
    temperature: float,
) -> float:
    """Sum of the gaps of one class's pairs."""
    inside = torch.zeros_like(group, dtype=torch.bool)
    inside[members] = True
    total = 0.0
    places = torch.arange(len(members), device=members.device)
    for some in places.split(max(1, BLOCK_SIMILARITIES // len(rows))):
        logits = rows[members[some]] @ rows.T / temperature
        own = logits[:, members]
        own[torch.arange(len(some)), some] = -torch.inf
        negatives = logits.masked_fill(inside, -torch.inf).logsumexp(dim=1, keepdim=True)
        gap = torch.logaddexp(_others(own) - negatives, own.new_zeros(()))
        gap[torch.arange(len(some)), some] = 0
        total += float(gap.sum())
    return total


def _others(logits: Float64[Tensor, "anchors columns"]) -> Float64[Tensor, "anchors columns"]:
    """log Σ e^{logit} over the other columns of a row. Sums from both sides: the difference to the whole sum would cancel."""
    nothing = torch.full_like(logits[:, :1], -torch.inf)
    before = torch.cat([nothing, logits.logcumsumexp(dim=1)[:, :-1]], dim=1)
    after = torch.cat([nothing, logits.flip(1).logcumsumexp(dim=1)[:, :-1]], dim=1).flip(1)
    return torch.logaddexp(before, after)
