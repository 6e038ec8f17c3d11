"""Circle loss: softplus(v), v the sum of two log-sums of weighted similarities."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import exponentials, inlined, maximum, over_rows


@inlined
def _weighted(row, slopes, sign, strength, offset, optimum, top):
    """Similarities become exponents, slope·(s − optimum), slope = sign·γ·[offset + sign·s]₊; returns the largest of them and `top`."""
    zero = row.dtype.type(0)
    for j in range(len(row)):
        slope = sign * strength * maximum(offset + sign * row[j], zero)
        slopes[j] = slope
        row[j] = slope * (row[j] - optimum)
        top = maximum(top, row[j])
    return top


@inlined
def _scaled(row, slopes, factor):
    number = row.dtype.type
    absolute, squares = number(0), number(0)
    for j in range(len(row)):
        g = row[j] * slopes[j] * factor
        row[j] = g
        absolute += abs(g)
        squares += g * g
    return np.float64(absolute), np.float64(squares)


@over_rows
def circle_rows(task, first, last):
    """A term for each sample with a positive and a negative; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    margin, tolerance, scale = task.settings[0], task.settings[1], task.settings[3]
    n = len(matrix)
    number = matrix.dtype.type
    plus, minus, one, strength = number(1), number(-1), number(1), number(scale)
    m, beyond, optimum = number(margin), number(1 + margin), number(1 - margin)
    slopes = np.empty(n, matrix.dtype)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        if b - a == n or b - a == 1:
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        before, left, right, after = row[:a], row[a:i], row[i + 1 : b], row[b:]
        lowest = number(-np.inf)
        near = _weighted(left, slopes[a:i], minus, strength, beyond, optimum, lowest)
        near = _weighted(right, slopes[i + 1 : b], minus, strength, beyond, optimum, near)
        far = _weighted(before, slopes[:a], plus, strength, m, m, lowest)
        far = _weighted(after, slopes[b:], plus, strength, m, m, far)
        of_positives = exponentials(left, near, one) + exponentials(right, near, one)
        of_negatives = exponentials(before, far, one) + exponentials(after, far, one)
        v = np.float64(near) + np.float64(far) + math.log(of_positives) + math.log(of_negatives)
        e = math.exp(-abs(v))
        w = 1 / (1 + e) if v > 0 else e / (1 + e)
        term = max(v, 0.0) + math.log1p(e)
        pull, push = number(w / of_positives), number(w / of_negatives)
        sums_, squares = _scaled(left, slopes[a:i], pull)
        more, more_squares = _scaled(right, slopes[i + 1 : b], pull)
        sums_, squares = sums_ + more, squares + more_squares
        more, more_squares = _scaled(before, slopes[:a], push)
        sums_, squares = sums_ + more, squares + more_squares
        more, more_squares = _scaled(after, slopes[b:], push)
        row[i] = 0
        value[own], weight[own], active[own] = term, w, term > tolerance
        absolute[own], squared[own] = sums_ + more, squares + more_squares
