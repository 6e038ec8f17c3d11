"""Embedding spaces with known geometry, to compare a measured space with."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

RANDOM = "random unit vectors"
COLLAPSE = "full collapse"
"""All points are equal."""

FROZEN = "frozen features"
"""Not projected by any head."""

CENTERED = "centered raw model"
"""Of queries and documents: each side minus its own mean, normalised again."""


def random_unit_vectors(
    labels: Int[Tensor, " rows"], *, width: int
) -> Float[Tensor, "rows {width}"]:
    """Random unit vectors, independent of the labels: intra near 1, inter near 0 (about 2/samples per class)."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(labels), width, generator=generator)
    return torch.nn.functional.normalize(rows)


def full_collapse(labels: Int[Tensor, " rows"], *, width: int) -> Float[Tensor, "rows {width}"]:
    """Every sample at one point: intra 0, inter 0, offset 1, and undefined ratios."""
    rows = torch.zeros(len(labels), width)
    rows[:, 0] = 1
    return rows
