"""Labels that look wrong: rows whose neighbours agree with confidence on another class.

Confident learning (Northcutt, Jiang, Chuang 2021, arXiv 1911.00068) with the shares of the k nearest neighbours as
probabilities. A row is suspicious if the share of another class reaches that class's own usual share.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float64, Int64
from torch import Tensor


class LabelErrors(NamedTuple):
    """Rows whose label looks wrong, the most certain first."""

    row: Int64[Tensor, " suspects"]
    given: Int64[Tensor, " suspects"]
    """Their labels."""
    suggested: Int64[Tensor, " suspects"]
    """The class that their neighbours have."""
    confidence: Float64[Tensor, " suspects"]
    """Share of the neighbours with the suggested class minus that with the given one, in (0, 1]."""
    row_count: int
    """Rows that were looked at."""
    k: int
    """Neighbours of each."""

    @property
    def share(self) -> float:
        """Share of the rows that look wrong, in [0, 1]."""
        return len(self.row) / self.row_count
