"""The gradient at the embeddings from the gradient at a matrix of pairs, and the norms of its two parts."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from lossgauge.kernels.threads import ROWS_A_PIECE
from lossgauge.kernels.vector_math import inlined, over_rows, sum_of


@register_jitable
def symmetrize(task, first, last):
    """matrix + matrixᵀ in place, for the band of rows from `first` right of the diagonal, and its mirror below."""
    matrix = task.matrix
    n, side = len(matrix), last - first
    # with a buffer: if the number of rows is a power of two, a column uses only a few lines of the CPU cache
    buffer = np.empty((side, ROWS_A_PIECE), matrix.dtype)
    for left in range(first, n, ROWS_A_PIECE):
        right = min(n, left + ROWS_A_PIECE)
        here, there = matrix[first:last, left:right], matrix[left:right, first:last]
        for j in range(right - left):
            for i in range(side):
                buffer[i, j] = there[j, i]
        for i in range(side):
            for j in range(right - left):
                both = here[i, j] + buffer[i, j]
                buffer[i, j] = both
                here[i, j] = both
        for j in range(right - left):
            for i in range(side):
                there[j, i] = buffer[i, j]


@inlined
def _weighted(weights, others, target):
    """Returns Σ weights, and adds weights @ others to `target`: four at a time, so `target` is read once for four."""
    number = target.dtype.type
    target[:] = 0
    total = number(0)
    count = len(weights)
    for p in range(0, count - 3, 4):
        a, b, c, d = weights[p], weights[p + 1], weights[p + 2], weights[p + 3]
        w, x, y, z = others[p], others[p + 1], others[p + 2], others[p + 3]
        total += (a + b) + (c + d)
        for k in range(len(target)):
            target[k] += (a * w[k] + b * x[k]) + (c * y[k] + d * z[k])
    for p in range(count - count % 4, count):
        a, w = weights[p], others[p]
        total += a
        for k in range(len(target)):
            target[k] += a * w[k]
    return total


@over_rows
def forces(task, first, last):
    """From G + Gᵀ and its product with the rows: the gradient, and the norms of its parts, pull and push."""
    matrix, rows, product, gradient = task.matrix, task.rows, task.product, task.gradient
    pull, push = task.pull, task.push
    start, end, order = task.start, task.end, task.order
    number = matrix.dtype.type
    distances, two = task.settings[2] > 0, number(2)
    pulled = np.empty(rows.shape[1], matrix.dtype)
    for i in range(first, last):
        a, b, own = start[i], end[i], order[i]
        row, whole, target = rows[i], product[i], gradient[own]
        positives = _weighted(matrix[i, a:b], rows[a:b], pulled)
        if b - a == len(
            rows
        ):  # without negatives, the push is 0, not the rounding error of two products
            whole[:] = pulled
        if distances:  # Σ_j 2·w_ij·(r_i − r_j)
            total = positives if b - a == len(rows) else sum_of(matrix[i])
            for k in range(len(row)):
                whole[k] = two * (total * row[k] - whole[k])
                pulled[k] = two * (positives * row[k] - pulled[k])
        squares, more_squares = number(0), number(0)
        for k in range(len(row)):
            pushed = whole[k] - pulled[k]
            target[k] = whole[k]
            squares += pulled[k] * pulled[k]
            more_squares += pushed * pushed
        pull[own], push[own] = np.sqrt(squares), np.sqrt(more_squares)
        task.positives[own] = b - a - 1
