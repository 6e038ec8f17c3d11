"""Powers of two to divide rows by, so that their squares fit float64; such a division is exact."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from lossgauge.batch import largest_entry

LEAST_ENTRY, LARGEST_ENTRY = 1e-140, 1e140
"""If the largest entry of rows is between these, then squares, their sums and their ratios fit float64."""


def power_of_two(rows: Float[Tensor, "rows width"]) -> float:
    """The power of two just above the largest entry, or half of it if that is out of range; 1 if all entries are 0."""
    _, exponent = math.frexp(largest_entry(rows))
    return math.ldexp(1.0, min(exponent, 1023))
