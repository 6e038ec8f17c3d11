"""Normalisation of rows to the unit sphere, and its gradient."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def on_sphere(
    rows: Float[Tensor, "rows width"],
) -> tuple[Float[Tensor, "rows width"], Float[Tensor, "rows 1"]]:
    """Rows divided by their norms, and the norms; a zero row stays zero, and its norm counts as 1e-12.

    Every other finite row is normalised correctly: if squares do not fit its type, it is first divided by its largest entry.
    """
    norms = rows.norm(dim=1, keepdim=True)
    if len(rows) == 0 or _squares_fit(norms):
        return rows / norms, norms
    wide = rows.double()
    largest = wide.abs().amax(dim=1, keepdim=True)
    scaled = wide / largest.where(largest > 0, 1)
    lengths = scaled.norm(dim=1, keepdim=True)
    unit = scaled / lengths.where(lengths > 0, 1)
    # norms stay in float64: in the type of the rows they may lose digits or overflow
    norms = (lengths * largest).masked_fill_(largest == 0, 1e-12)
    return unit.to(rows.dtype), norms


def _squares_fit(norms: Float[Tensor, "rows 1"]) -> bool:
    """Whether each norm is the root of a sum of squares that did not overflow and did not lose digits by underflow."""
    kind = torch.finfo(norms.dtype)
    smallest, largest = torch.stack(norms.detach().aminmax()).tolist()
    return bool((kind.tiny / kind.eps) ** 0.5 <= smallest and largest <= kind.max)


def through_normalization(
    gradient: Float[Tensor, "*parts rows width"],
    unit: Float[Tensor, "rows width"],
    norms: Float[Tensor, "rows 1"],
) -> Float[Tensor, "*parts rows width"]:
    """The gradient at the original rows, from that at the unit rows: its tangent part divided by the norm; in place."""
    along = torch.linalg.vecdot(gradient, unit)[..., None]
    return gradient.addcmul_(unit, along, value=-1).div_(norms)


def normalized(rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """`F.normalize` of rows, with five passes over them, forward and backward, instead of twelve."""
    return cast(Tensor, _Normalized.apply(rows))


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        unit, norms = on_sphere(rows)
        ctx.save_for_backward(unit, norms)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, norms = ctx.saved_tensors
        # not in place: the probe reads this gradient
        along = torch.linalg.vecdot(gradient, unit)[:, None]
        return torch.addcmul(gradient, unit, along, value=-1).div_(norms)
