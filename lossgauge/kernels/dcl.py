"""DCL: v for each positive p, v = log Σ e^{s/τ} − s_p/τ, the sum over all other samples but p.

Each of these sums is that of the row minus one entry. This loses all digits if that entry is more than half of the sum, which only the most
similar positive can be: so the row is summed without it.
"""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import (
    below,
    exponentials,
    inlined,
    largest,
    log1p,
    over_rows,
    scale_row,
    sum_of,
)


@inlined
def _inverses(row, inverses, total):
    """`inverses` becomes 1/(total − e) for the entries e, none above half of `total`; returns Σ log((total − e)/total)."""
    number = row.dtype.type
    logs, one = number(0), number(1)
    for j in range(len(row)):
        inverses[j] = one / (total - row[j])
        logs -= log1p(row[j] * inverses[j])
    return np.float64(logs)


@inlined
def _inverses_beside(row, inverses, total, unit):
    """The same of 1 + unit·(total − e), with unit·total at most 1; returns the Σ of its logarithms."""
    number = row.dtype.type
    logs, one = number(0), number(1)
    for j in range(len(row)):
        rest = unit * (total - row[j])
        inverses[j] = one / (one + rest)
        logs += log1p(rest)
    return np.float64(logs)


@inlined
def _forces(row, inverses, total, unit, constant, strength):
    """Entries e become (e·(constant + unit·(total − inverse)) − 1)·strength; returns Σ|g| and Σg²."""
    number = row.dtype.type
    absolute, squares, one = number(0), number(0), number(1)
    for j in range(len(row)):
        g = (row[j] * (constant + unit * (total - inverses[j])) - one) * strength
        row[j] = g
        absolute += abs(g)
        squares += g * g
    return np.float64(absolute), np.float64(squares)


@over_rows
def decoupled_rows(task, first, last):
    """A term for each positive of a sample that has a third sample; `matrix` holds dot products."""
    matrix, sums, active = task.matrix, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    n = len(matrix)
    number = matrix.dtype.type
    inverse, zero, one, none = 1 / task.settings[0], number(0), number(1), number(-np.inf)
    strength = number(inverse)
    inverses = np.empty(n, matrix.dtype)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        positives = b - a - 1
        if positives == 0 or n == 2:
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        before, left, right, after = row[:a], row[a:i], row[i + 1 : b], row[b:]
        near = a + 1 if i == a else a
        for j in range(near, b):
            near = j if j != i and row[j] > row[near] else near
        most = row[near]
        row[i], row[near] = none, none  # their exponentials are 0
        top = largest(row, none)
        row[near] = most
        shift = np.float64(top)
        term = (below(left, shift) + below(right, shift)) * inverse
        beyond = (np.float64(most) - shift) * inverse
        row[near] = none
        of_negatives = exponentials(before, top, strength) + exponentials(after, top, strength)
        total = exponentials(left, top, strength) + exponentials(right, top, strength)
        total += of_negatives
        left_inverses, right_inverses = inverses[a:i], inverses[i + 1 : b]
        if beyond < math.log(total):
            row[near] = number(math.exp(beyond))
            total += np.float64(row[near])
            whole = number(total)
            term += positives * math.log(total)
            term += _inverses(left, left_inverses, whole) + _inverses(right, right_inverses, whole)
            every = sum_of(left_inverses) + sum_of(right_inverses)
            unit, constant = one, zero
        else:
            # in units of its exponential, every sum but its own is 1 and a rest
            unit, whole = number(math.exp(-beyond)), number(total)
            row[near] = whole  # no rest
            term += (positives - 1) * beyond + math.log(total)
            term += _inverses_beside(left, left_inverses, whole, unit)
            term += _inverses_beside(right, right_inverses, whole, unit)
            row[near] = inverses[near] = 0
            every = sum_of(left_inverses) + sum_of(right_inverses)
            constant = number(1 / total)
        sums_, squares = _forces(left, left_inverses, every, unit, constant, strength)
        more, more_squares = _forces(right, right_inverses, every, unit, constant, strength)
        if constant > zero:  # the force at the nearest, whose exponential counts as 0 above
            row[near] += every * strength
            sums_ += abs(np.float64(row[near])) - inverse
            squares += np.float64(row[near]) ** 2 - inverse * inverse
        push = (constant + unit * every) * strength
        squares += more_squares + scale_row(before, push) + scale_row(after, push)
        row[i] = 0
        value[own], weight[own], active[own] = term, positives, positives
        absolute[own], squared[own] = sums_ + more + of_negatives * np.float64(push), squares
