"""InfoNCE: softplus(v) for each positive, v = log Σ_negatives e^{s/τ} − s/τ."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import (
    exp,
    exponentials,
    inlined,
    largest,
    log1p,
    over_rows,
    scale_row,
)


@inlined
def _softplus(row, log_sum_negatives, top, inverse, tolerance):
    number = row.dtype.type
    values, weights, squares, active = number(0), number(0), number(0), number(0)
    one, zero, strength = number(1), number(0), number(inverse)
    for j in range(len(row)):
        # the difference first: both are large if the temperature is small
        v = number(log_sum_negatives + (top - np.float64(row[j])) * inverse)
        e = exp(-abs(v))
        whole = one / (one + e)
        w = whole if v > zero else e * whole
        term = max(v, zero) + log1p(e)
        values += term
        weights += w
        active += one if term > tolerance else zero
        g = w * strength
        row[j] = -g
        squares += g * g
    return np.float64(values), np.float64(weights), np.int64(active), np.float64(squares)


@over_rows
def softplus_rows(task, first, last):
    """A term for each positive of a sample; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    temperature, tolerance = task.settings[0], task.settings[1]
    n = len(matrix)
    number = matrix.dtype.type
    inverse = 1 / temperature
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        if b - a == n:  # no negative
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        before, after = row[:a], row[b:]
        top = largest(before, largest(after, number(-np.inf)))
        total = exponentials(before, top, number(inverse))
        total += exponentials(after, top, number(inverse))
        log_sum_negatives, bar = math.log(total), number(tolerance)
        values, weights, count, squares = _softplus(
            row[a:i], log_sum_negatives, np.float64(top), inverse, bar
        )
        v, w, c, s = _softplus(row[i + 1 : b], log_sum_negatives, np.float64(top), inverse, bar)
        row[i] = 0
        weights += w
        factor = number(weights * inverse / total)
        squares += s + scale_row(before, factor) + scale_row(after, factor)
        value[own], weight[own], active[own] = values + v, weights, count + c
        absolute[own], squared[own] = 2 * weights * inverse, squares
