"""SigLIP: softplus(v) for each pair, v = t·s + b for a negative and −(t·s + b) for a positive."""

from __future__ import annotations

import numpy as np

from lossgauge.kernels.vector_math import exp, inlined, log1p, over_rows


@inlined
def _logistic(row, sign, scale, bias, tolerance):
    """The pairs of one sign; `row` becomes the gradient. Also returns Σ W·s."""
    number = row.dtype.type
    one, zero = number(1), number(0)
    values, weights, squares, along, active = zero, zero, zero, zero, zero
    for j in range(len(row)):
        v = sign * (row[j] * scale + bias)
        e = exp(-abs(v))
        whole = one / (one + e)
        w = whole if v > zero else e * whole
        term = max(v, zero) + log1p(e)
        values += term
        weights += w
        along += w * row[j]
        active += one if term > tolerance else zero
        g = w * scale
        row[j] = sign * g
        squares += g * g
    return np.float64(values), np.float64(weights), np.int64(active), np.float64(squares), np.float64(along)  # fmt: skip


@over_rows
def logistic_rows(task, first, last):
    """A term for each other sample; `matrix` holds dot products. The further sums are the gradients at log t and at b."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    at_log_scale, at_bias = sums[4], sums[5]
    t = task.settings[0]
    number = matrix.dtype.type
    scale, bar, bias = number(t), number(task.settings[1]), number(task.settings[3])
    plus, minus = number(1), number(-1)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        values, pulls, count, squares, along = _logistic(row[a:i], minus, scale, bias, bar)
        v, w, c, s, x = _logistic(row[i + 1 : b], minus, scale, bias, bar)
        values, pulls, count, squares, along = values + v, pulls + w, count + c, squares + s, along + x  # fmt: skip
        far, pushes, far_count, far_squares, far_along = _logistic(row[:a], plus, scale, bias, bar)
        v, w, c, s, x = _logistic(row[b:], plus, scale, bias, bar)
        pushes += w
        row[i] = 0
        value[own], weight[own] = values + far + v, pulls + pushes
        active[own] = count + far_count + c
        absolute[own], squared[own] = (pulls + pushes) * t, squares + far_squares + s
        at_log_scale[i], at_bias[i] = (far_along + x - along) * t, pushes - pulls
