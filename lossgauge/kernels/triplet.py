"""Batch-all triplet loss: [D_positive − D_negative + margin]₊ for each pair of a positive and a negative; D or D²."""

from __future__ import annotations

import numpy as np

from lossgauge.kernels.distances import square_distances
from lossgauge.kernels.vector_math import inlined, over_rows

_EACH_WITH_EACH = 1 << 20
"""With fewer comparisons than this for an anchor, comparing all (sixteen per instruction) is faster than sorting."""


@inlined
def _compare_each(limits, negatives, tolerance, below, times):
    """Fills `below` (the number of negatives below each limit) and `times` (the number of limits above each negative).

    Returns the number of active triplets. It handles four limits at a time, so a negative is read once for four.
    """
    one, zero = np.float32(1), np.float32(0)
    times[:] = 0
    active = 0
    positives = len(limits)
    for p in range(0, positives - 3, 4):
        a0, a1, a2, a3 = limits[p], limits[p + 1], limits[p + 2], limits[p + 3]
        s0, s1, s2, s3 = a0 - tolerance, a1 - tolerance, a2 - tolerance, a3 - tolerance
        b0, b1, b2, b3, strictly = zero, zero, zero, zero, zero
        for j in range(len(negatives)):
            negative = negatives[j]
            m0 = one if negative < a0 else zero
            m1 = one if negative < a1 else zero
            m2 = one if negative < a2 else zero
            m3 = one if negative < a3 else zero
            b0 += m0
            b1 += m1
            b2 += m2
            b3 += m3
            times[j] += (m0 + m1) + (m2 + m3)
            strictly += (one if negative < s0 else zero) + (one if negative < s1 else zero)
            strictly += (one if negative < s2 else zero) + (one if negative < s3 else zero)
        below[p], below[p + 1], below[p + 2], below[p + 3] = b0, b1, b2, b3
        active += np.int64(strictly)
    for p in range(positives - positives % 4, positives):
        a0, s0, b0, strictly = limits[p], limits[p] - tolerance, zero, zero
        for j in range(len(negatives)):
            m0 = one if negatives[j] < a0 else zero
            b0 += m0
            times[j] += m0
            strictly += one if negatives[j] < s0 else zero
        below[p] = b0
        active += np.int64(strictly)
    return active


@inlined
def _ranks(ascending, values, ranks):
    """The number of entries of `ascending` that are at most each value; its length is a power of two. One binary search for all.

    Unsigned, so that no index can be negative and the search compiles to vector gathers.
    """
    ranks[:] = 0
    step = len(ascending) >> 1
    while step:
        there, last = np.uint32(step), np.uint32(step - 1)
        for j in range(len(values)):
            rank = ranks[j]
            passed = ascending[np.uint32(rank + last)] <= values[j]
            ranks[j] = np.uint32(rank + there) if passed else rank
        step >>= 1


@inlined
def _compare_sorted(limits, negatives, tolerance, below, times):
    """The same result as `_compare_each`, if there are too many to compare all."""
    number = limits.dtype.type
    positives = len(limits)
    size = 1
    while size <= positives:
        size *= 2
    sorted_limits = np.full(size, number(np.inf), limits.dtype)
    sorted_limits[:positives] = limits
    sorted_limits[:positives].sort()
    ranks = np.empty(len(negatives), np.uint32)
    _ranks(sorted_limits, negatives, ranks)
    passed = np.zeros(size, np.int64)
    for j in range(len(negatives)):
        passed[ranks[j]] += 1
        times[j] = number(positives) - number(ranks[j])
    for k in range(1, size):
        passed[k] += passed[k - 1]
    own_ranks = np.empty(positives, np.uint32)
    _ranks(sorted_limits, limits, own_ranks)
    for p in range(positives):
        below[p] = number(passed[own_ranks[p] - 1])
    sorted_limits -= tolerance
    _ranks(sorted_limits, negatives, ranks)
    active = 0
    for j in range(len(negatives)):
        active += positives - np.int64(ranks[j])
    return active


@inlined
def _at_squares(counts, distances):
    """Turns counts, the gradient at D, into the gradient at D², in place; returns Σ|g| and Σg².

    ∂D/∂D² = 1/(2D). Equal points have no direction between them, so no force.
    """
    number = counts.dtype.type
    zero, two = number(0), number(2)
    total, squares = 0.0, 0.0
    for j in range(len(counts)):
        distance = distances[j]
        g = counts[j] / (two * distance) if distance > zero else zero
        counts[j] = g
        total += abs(np.float64(g))
        squares += np.float64(g) * np.float64(g)
    return total, squares


@over_rows
def _rows(task, first, last, is_squared):
    """A term for each positive and negative of a sample; `matrix` holds dot products.

    The limit of a positive is its distance plus the margin: a negative below it is a violated triplet. Then
    Σ [limit − negative]₊ = Σ_p below_p · limit_p − Σ_n times_n · negative_n: only the counts need every pair.
    """
    matrix, norms, sums, active = task.matrix, task.norms, task.sums, task.active
    start, end, order = task.start, task.end, task.order
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    margin, tolerance, rounding = task.settings[0], task.settings[1], task.settings[2]
    n = len(matrix)
    number = matrix.dtype.type
    bar, edge = number(tolerance), number(margin)
    compared, counts = np.empty(n, matrix.dtype), np.empty(n, matrix.dtype)
    apart = np.empty(0 if is_squared else n, matrix.dtype)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        square_distances(row, norms, norms[i], number(rounding))
        if not is_squared:
            for j in range(n):
                row[j] = apart[j] = np.sqrt(row[j])
        positives, negatives = b - a - 1, n - (b - a)
        limits, distances = compared[:positives], compared[positives : n - 1]
        limits[: i - a], limits[i - a :] = row[a:i], row[i + 1 : b]
        distances[:a], distances[a:] = row[:a], row[b:]
        for p in range(positives):
            limits[p] += edge
        below, times = counts[:positives], counts[positives : n - 1]
        if positives * negatives <= _EACH_WITH_EACH:
            active[own] = _compare_each(limits, distances, bar, below, times)
        else:
            active[own] = _compare_sorted(limits, distances, bar, below, times)
        values, violated, squares = 0.0, 0.0, 0.0
        for p in range(positives):
            count = np.float64(below[p])
            values += count * np.float64(limits[p])
            violated += count
            squares += count * count
        for j in range(negatives):
            count = np.float64(times[j])
            values -= count * np.float64(distances[j])
            squares += count * count
            times[j] = -times[j]
        value[own], weight[own] = values, violated
        absolute[own], squared[own] = 2 * violated, squares
        row[:a], row[b:] = times[:a], times[a:]
        row[a:i], row[i], row[i + 1 : b] = below[: i - a], 0, below[i - a :]
        if not is_squared:
            absolute[own], squared[own] = _at_squares(row, apart)


@over_rows
def triplet_rows(task, first, last):
    """Terms over squared distances."""
    _rows(task, first, last, True)


@over_rows
def unsquared_triplet_rows(task, first, last):
    """Terms over distances."""
    _rows(task, first, last, False)
