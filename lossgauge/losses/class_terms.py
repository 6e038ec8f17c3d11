"""Terms of samples against class rows, one for each sample: softplus(v), v = log Σ_negatives e^{s·cosine} − s·target.

v is defined as in `softmax_family.py`: the row of the own class is the positive, and all other rows are negatives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class NegativeTerms(NamedTuple):
    """Terms of samples against class rows: one for each sample, its own class against all others."""

    value: Float[Tensor, " batch"]
    active: Int[Tensor, " batch"]
    weight: Float[Tensor, " batch"]
    """W; scale · W is the force at the target."""
    total: Float[Tensor, " batch"]
    """Σ|∂value/∂cosine| over the negatives, in float64 …"""
    squares: Float[Tensor, " batch"]
    """… and the sum of their squares."""


def negative_terms(
    cosine: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    target: Float[Tensor, " batch"],
    *,
    scale: float,
    tolerance: float,
) -> NegativeTerms:
    """Terms of value softplus(log Σ_negatives e^{scale · cosine} − scale · target), in place.

    The negatives of a sample are all classes but its own. `cosine` becomes ∂value/∂cosine of the negatives, 0 at
    each sample's own class. With one class there is no negative, and value and weight are 0.
    """
    lowest = torch.finfo(cosine.dtype).min / 4
    negatives = cosine.scatter_(1, labels[:, None], -torch.inf)
    # Differences first: both sides are large if the scale is large. Subtract the nearest negative, not the
    # target: with a large margin, all differences to the target would round to one number.
    top = negatives.amax(dim=1).clamp_(min=lowest)
    log_sum_negatives = negatives.sub_(top[:, None]).mul_(scale).logsumexp(dim=1).clamp_(min=lowest)
    v = (top - target).mul_(scale).add_(log_sum_negatives)
    value = torch.logaddexp(v, v.new_zeros(()))
    weight = v.sigmoid()
    force = negatives.sub_(log_sum_negatives[:, None]).exp_().mul_((weight * scale)[:, None])
    return NegativeTerms(
        value=value,
        active=(value > tolerance).long(),
        weight=weight,
        total=force.sum(dim=1, dtype=torch.float64),
        squares=torch.linalg.vector_norm(force, dim=1, dtype=torch.float64).square(),
    )


def compiled_negative_terms(
    cosine: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    target: Float[Tensor, " batch"],
    *,
    scale: float,
    tolerance: float,
) -> NegativeTerms | None:
    """The same result as `negative_terms`, in place too, on a CPU; None on another device."""
    if cosine.device.type != "cpu":
        return None
    from lossgauge.kernels.class_softmax import class_rows
    from lossgauge.kernels.tasks import ClassTask
    from lossgauge.kernels.threads import run_kernel

    sums, active = torch.empty(4, len(labels), dtype=torch.float64), torch.empty_like(labels)
    task = ClassTask(
        matrix=cosine,
        target=target.contiguous(),
        sums=sums,
        settings=torch.from_numpy(np.array((scale, tolerance))),
        active=active,
        own_column=labels.contiguous(),
    )
    run_kernel(class_rows, task)
    value, weight, absolute, squared = sums
    number = cosine.dtype
    return NegativeTerms(value.to(number), active, weight.to(number), absolute, squared)
