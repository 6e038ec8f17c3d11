"""Smooth-AP: for each sample, each positive against all columns, with a sigmoid for each comparison."""

from __future__ import annotations

import numpy as np

from lossgauge.kernels.vector_math import exp, inlined, over_rows, sum_of


@inlined
def _sigmoids(row, slopes, own, inverse):
    """Σ σ(x) of x = (s − own)·inverse; `slopes` becomes σ(1 − σ)."""
    number = row.dtype.type
    one, zero = number(1), number(0)
    total = number(0)
    for j in range(len(row)):
        x = (row[j] - own) * inverse
        e = exp(-abs(x))
        whole = one / (one + e)
        part = e * whole
        total += whole if x > zero else part
        slopes[j] = part * whole
    return np.float64(total)


@inlined
def _above(row, bound):
    """How many numbers are above `bound`."""
    number = row.dtype.type
    one, zero = number(1), number(0)
    total = number(0)
    for j in range(len(row)):
        total += one if row[j] > bound else zero
    return np.float64(total)


@inlined
def _add(gradient, slopes, factor):
    for j in range(len(gradient)):
        gradient[j] += slopes[j] * factor


@inlined
def _sizes(row):
    number = row.dtype.type
    absolute, squares = number(0), number(0)
    for j in range(len(row)):
        absolute += abs(row[j])
        squares += row[j] * row[j]
    return np.float64(absolute), np.float64(squares)


@over_rows
def smooth_ap_rows(task, first, last):
    """A term for each sample with a positive; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    temperature, tolerance = task.settings[0], task.settings[1]
    with_itself, window = task.settings[3] > 0, task.settings[4]
    n = len(matrix)
    number = matrix.dtype.type
    inverse, reach = number(1 / temperature), number(window * temperature)
    slopes, gradient = np.empty(n, matrix.dtype), np.empty(n, matrix.dtype)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        if b - a == 1:
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        if not with_itself:
            row[i] = number(-np.inf)  # below all: its sigmoid and its slope are 0
        before, inside, after = row[:a], row[a:b], row[b:]
        positives = b - a if with_itself else b - a - 1
        gradient[:] = 0
        term, live, unsatisfied = 0.0, 0.0, 0.0
        for p in range(a, b):
            if p == i and not with_itself:
                continue
            s = row[p]
            wrong = _sigmoids(before, slopes[:a], s, inverse)
            wrong += _sigmoids(after, slopes[b:], s, inverse)
            # the positive itself has σ(0) = ½, and counts as 1
            right = _sigmoids(inside, slopes[a:b], s, inverse) + 0.5
            slopes[p] = 0  # it would cancel, and cost digits
            rank = right + wrong
            term += wrong / rank
            strength = 1 / (rank * rank * temperature * positives)
            push, pull = number(right * strength), number(-wrong * strength)
            _add(gradient[:a], slopes[:a], push)
            _add(gradient[b:], slopes[b:], push)
            _add(gradient[a:b], slopes[a:b], pull)
            back = (sum_of(slopes[:a]) + sum_of(slopes[b:])) * push + sum_of(slopes[a:b]) * pull
            gradient[p] -= back
            most = _above(before, s - reach) + _above(after, s - reach)
            unsatisfied += most
            live += most - _above(before, s + reach) - _above(after, s + reach)
        row[:] = gradient
        term /= positives
        sums_, squares = _sizes(row)
        value[own], active[own] = term, term > tolerance
        weight[own] = live / unsatisfied if unsatisfied > 0 else 0.0
        absolute[own], squared[own] = sums_, squares
