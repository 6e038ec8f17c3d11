"""Contrastive loss: D² for a positive, [margin − D]₊² for a negative."""

from __future__ import annotations

import numpy as np

from lossgauge.kernels.distances import square_distances
from lossgauge.kernels.vector_math import inlined, over_rows


@inlined
def _repel(row, margin, tolerance):
    number = row.dtype.type
    zero, one = number(0), number(1)
    values, weights, sums, squares, active = zero, zero, zero, zero, zero
    for j in range(len(row)):
        distance = np.sqrt(row[j])
        short = max(margin - distance, zero)
        g = short / distance if distance > zero else zero
        term = short * short
        values += term
        weights += short
        active += one if term > tolerance else zero
        sums += g
        squares += g * g
        row[j] = -g
    return np.float64(values), np.float64(weights), np.int64(active), np.float64(sums), np.float64(squares)  # fmt: skip


@inlined
def _attract(row, tolerance):
    number = row.dtype.type
    zero, one = number(0), number(1)
    values, weights, active = zero, zero, zero
    for j in range(len(row)):
        term = row[j]
        values += term
        weights += min(np.sqrt(term) * number(0.5), one)
        active += one if term > tolerance else zero
        row[j] = one
    return np.float64(values), np.float64(weights), np.int64(active)


@over_rows
def contrastive_rows(task, first, last):
    """A term for each other sample; `matrix` holds dot products."""
    matrix, norms, sums, active = task.matrix, task.norms, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    margin, tolerance, rounding = task.settings[0], task.settings[1], task.settings[2]
    number = matrix.dtype.type
    edge, bar = number(margin), number(tolerance)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        square_distances(row, norms, norms[i], number(rounding))
        row[i] = 0
        values, weights, count, sums, squares = _repel(row[:a], edge, bar)
        v, w, c, s, q = _repel(row[b:], edge, bar)
        weights = (weights + w) / margin if margin > 0 else 0.0
        near, pulls, moving = _attract(row[a:b], bar)
        row[i] = 0
        value[own], weight[own], active[own] = (
            values + v + near,
            weights + pulls,
            count + c + moving,
        )
        positives = b - a - 1
        absolute[own], squared[own] = sums + s + positives, squares + q + positives
