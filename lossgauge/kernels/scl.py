"""Supervised contrastive loss: −(1/|P|) Σ_p log softmax over all others."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import (
    below,
    exponentials,
    inlined,
    largest,
    over_rows,
    scale_row,
)


@inlined
def _off_target(row, factor, target):
    number = row.dtype.type
    sums, squares = number(0), number(0)
    for j in range(len(row)):
        g = row[j] * factor - target
        row[j] = g
        sums += abs(g)
        squares += g * g
    return np.float64(sums), np.float64(squares)


@over_rows
def scl_rows(task, first, last):
    """A term for each sample with a positive; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    temperature, tolerance = task.settings[0], task.settings[1]
    number = matrix.dtype.type
    inverse = number(1 / temperature)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        positives = b - a - 1
        if positives == 0:
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        before, left, right, after = row[:a], row[a:i], row[i + 1 : b], row[b:]
        row[i] = number(-np.inf)
        top = largest(row, number(-np.inf))
        row[i] = 0
        less = below(left, np.float64(top)) + below(right, np.float64(top))
        inside = exponentials(left, top, inverse) + exponentials(right, top, inverse)
        outside = exponentials(before, top, inverse) + exponentials(after, top, inverse)
        total = inside + outside
        term = math.log(total) + less / positives / temperature
        factor, target = number(1 / total / temperature), number(1 / (positives * temperature))
        sums, squares = _off_target(left, factor, target)
        more_sums, more_squares = _off_target(right, factor, target)
        squares += more_squares + scale_row(before, factor) + scale_row(after, factor)
        value[own], weight[own], active[own] = term, outside / total, term > tolerance
        absolute[own], squared[own] = sums + more_sums + outside / total / temperature, squares
