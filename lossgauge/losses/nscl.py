"""Negatives-only supervised contrastive loss: every positive against the negatives, without the positive in the denominator.

arXiv 2506.04411. A term is an ordered positive pair of value v = log Σ_{n∈N(i)} e^{s_in/τ} − s_ip/τ, which may be negative: InfoNCE
without its softplus. So every term pulls and pushes with full strength (W = 1), however well it is satisfied.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting
from lossgauge.losses.softmax_family import log_sum


def nscl_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    temperature: float,
) -> Terms:
    """Terms over (row, positive) pairs; a row without negatives has none. W = 1, so every term is active."""
    logits = similarity / temperature
    negatives, log_sum_negatives = log_sum(logits, negative)
    valid = positive & negative.any(dim=1, keepdim=True)
    counts = valid.sum(dim=1)
    weight = counts.to(logits.dtype)
    value = (log_sum_negatives - logits).mul_(valid).sum(dim=1)
    share = negatives.sub_(log_sum_negatives).exp_()
    return Terms(
        value=value,
        counts=counts,
        active=counts,
        weight=weight,
        gradient=share.mul_(weight[:, None]).sub_(valid.to(logits.dtype)).div_(temperature),
    )


def nscl_kernel(temperature: float, tolerance: float) -> KernelSpec:
    """The compiled form of `nscl_terms`."""
    from lossgauge.kernels.nscl import full_weight_rows

    return KernelSpec(
        full_weight_rows,
        (temperature, tolerance),
        counts=lambda positives, negatives: positives * (negatives > 0),
    )


class NSCL(PairLoss):
    """Negatives-only supervised contrastive loss over dot products of the embeddings; normalise them first for cosines."""

    group = "related"
    aliases = ("negatives_only_supervised_contrastive", "negatives_only_scl")

    matrix = DOT_PRODUCTS
    temperature: float = setting(
        default=0.1, check=above_zero, search=SearchRange(0.01, 1.0, log=True)
    )

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        return nscl_terms(matrix, positive, negative, temperature=self.temperature)

    def kernel(self) -> KernelSpec:
        return nscl_kernel(self.temperature, self.tolerance)

    def floor(self, labels: Int[Tensor, " batch"]) -> float:
        """Mean over terms of log|N| − 2/τ: s_ip − s_in ≤ 2 on the unit sphere. Below 0 for a small temperature."""
        _, group, sizes = labels.unique(return_inverse=True, return_counts=True)
        negatives = (len(labels) - sizes[group]).double()
        terms = torch.where(negatives > 0, sizes[group] - 1, 0).double()
        if not terms.any():
            return 0.0
        logs = (negatives.clamp(min=1).log() * terms).sum() / terms.sum()
        return float(logs) - 2 / self.temperature if math.isfinite(logs) else 0.0
