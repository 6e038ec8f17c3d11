"""Squared distances from dot products and squared norms."""

from __future__ import annotations

from numba import njit

from lossgauge.kernels.vector_math import FAST


@njit(fastmath=FAST, forceinline=True)
def square_distances(row, norms, own, rounding):
    """A row of dot products becomes one of squared distances; `own` is the row's squared norm.

    Where a distance is within `rounding` of its own terms it is 0: equal points have no direction between them.
    """
    number = row.dtype.type
    for j in range(len(row)):
        both = own + norms[j]
        distance = both - number(2) * row[j]
        row[j] = distance if distance > rounding * both else number(0)
