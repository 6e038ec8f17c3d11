"""NSCL: v for each positive, v = log Σ_negatives e^{s/τ} − s/τ."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import exponentials, inlined, largest, over_rows, scale_row


@inlined
def _values(row, log_sum_negatives, top, inverse):
    number = row.dtype.type
    values, strength = number(0), number(inverse)
    for j in range(len(row)):
        # the difference first: both are large if the temperature is small
        values += number(log_sum_negatives + (top - np.float64(row[j])) * inverse)
        row[j] = -strength
    return np.float64(values)


@over_rows
def full_weight_rows(task, first, last):
    """A term for each positive of a sample that has a negative; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    n = len(matrix)
    number = matrix.dtype.type
    inverse = 1 / task.settings[0]
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
        log_sum_negatives, terms = math.log(total), b - a - 1
        values = _values(row[a:i], log_sum_negatives, np.float64(top), inverse)
        values += _values(row[i + 1 : b], log_sum_negatives, np.float64(top), inverse)
        row[i] = 0
        factor = number(terms * inverse / total)
        squares = scale_row(before, factor) + scale_row(after, factor)
        value[own], weight[own], active[own] = values, terms, terms
        absolute[own], squared[own] = 2 * terms * inverse, squares + terms * inverse * inverse
