"""Directions minus a mean, of length 1 again: what all rows have in common is left out of every cosine."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from lossgauge.ranking.scores import norms_and_directions

AT_MEAN = 1e-12
"""A direction that is nearer to the mean than this equals it, up to rounding."""


def centered_directions(
    directions: Float64[Tensor, "rows width"], mean: Float64[Tensor, " width"]
) -> Float64[Tensor, "rows width"]:
    """Directions minus `mean`, of length 1 again.

    A row at the mean has no direction without it, and stays as it is: a mean of directions is that long only if they are all equal. A row
    of zeros has no direction either way, and stays zero.
    """
    away = directions - mean
    stays = (torch.linalg.vector_norm(away, dim=1) < AT_MEAN) | ~directions.any(dim=1)
    return norms_and_directions(torch.where(stays[:, None], directions, away))[1]
