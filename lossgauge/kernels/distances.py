"""Squared distances from dot products and squared norms."""

from __future__ import annotations

from lossgauge.kernels.vector_math import inlined


@inlined
def square_distances(row, norms, own, rounding):
    """Converts a row of dot products to squared distances, in place; `own` is the squared norm of the row.

    A distance within `rounding` of its terms becomes 0, because equal points have no direction between them.
    """
    number = row.dtype.type
    for j in range(len(row)):
        both = own + norms[j]
        distance = both - number(2) * row[j]
        row[j] = distance if distance > rounding * both else number(0)
