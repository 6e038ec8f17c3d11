"""Powers of two by which rows are divided, so that their squares stay inside float64: no digit changes."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

LEAST_ENTRY, LARGEST_ENTRY = 1e-140, 1e140
"""Where the largest entry of rows lies between these, squares, their sums and their ratios fit float64."""


def largest_entry(rows: Float[Tensor, "rows width"]) -> float:
    """The largest entry by its absolute value."""
    low, high = (float(extreme) for extreme in rows.aminmax())
    return max(-low, high)


def power_of_two(rows: Float[Tensor, "rows width"]) -> float:
    """The power of two just above the largest entry, or half of it where that is out of reach; 1 where all are 0."""
    _, exponent = math.frexp(largest_entry(rows))
    return math.ldexp(1.0, min(exponent, 1023))
