"""Multi-similarity: a soft sum over the positives of each sample, and one over its negatives."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import (
    exponentials,
    inlined,
    largest,
    over_rows,
    scale_row,
    smallest,
)


@inlined
def _soft_sum(first, second, top, base, rate):
    """log(1 + Σ e^x) of x = rate·(s − base), and Σ/(1 + Σ); the rows become e^x/(1 + Σ), up to the factor that is returned."""
    number = first.dtype.type
    total = exponentials(first, top, number(rate)) + exponentials(second, top, number(rate))
    shift = (np.float64(top) - base) * rate
    whole = total + math.exp(-shift)
    value = math.log1p(total) if shift == 0 else shift + math.log(whole)
    return value, total / whole, number(1 / whole)


@over_rows
def soft_sum_rows(task, first, last):
    """A term for each sample with a positive and a negative; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    base, tolerance = task.settings[0], task.settings[1]
    alpha, beta = task.settings[3], task.settings[4]
    n = len(matrix)
    number = matrix.dtype.type
    origin = number(base)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        if b - a == n or b - a == 1:
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        before, left, right, after = row[:a], row[a:i], row[i + 1 : b], row[b:]
        # the 1 of the sum stands at the base, so the largest exponent is at least that of the base
        low = smallest(left, smallest(right, origin))
        top = largest(before, largest(after, origin))
        pulled, pull, factor = _soft_sum(left, right, low, np.float64(origin), -alpha)
        squares = scale_row(left, -factor) + scale_row(right, -factor)
        pushed, push, factor = _soft_sum(before, after, top, np.float64(origin), beta)
        squares += scale_row(before, factor) + scale_row(after, factor)
        row[i] = 0
        term = pulled / alpha + pushed / beta
        value[own], weight[own], active[own] = term, (pull + push) / 2, term > tolerance
        absolute[own], squared[own] = pull + push, squares
