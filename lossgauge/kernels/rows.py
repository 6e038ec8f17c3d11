"""One pass over each row of a batch's matrix, compiled: the terms of a pair loss, and their gradient in place.

The batch is sorted by class, so a row's positives are one run of columns, [start, end), its negatives the
two runs around it, and no loop has a branch that depends on the data. Rows are shared out over threads and each is
summed in one order: results do not depend on the number of threads. The torch forms beside the losses are
the reference, and serve every other device.

Each kernel overwrites `matrix` with G, and fills for each row: the sum of term values, of W, the number of
active terms, and Σ|g| and Σg².
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

# sums may be reordered into vector lanes; NaN and infinity keep their meaning
_FAST = {"reassoc", "nsz", "contract"}


def _exp(x):
    """e^x for x ≤ 0, in the type of x.

    In float32 by a polynomial that compiles into vector instructions, as libm's does not: within 3 units in
    the last place (Cephes' expf); 0 below −87.
    """
    raise NotImplementedError("compiled only")


@overload(_exp, jit_options={"fastmath": _FAST})
def _exp_of(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def single(x):
        alive = np.float32(1) if x > np.float32(-87) else np.float32(0)
        inside = max(x, np.float32(-87))
        n = np.floor(inside * np.float32(1.4426950408889634) + np.float32(0.5))
        first = inside - n * np.float32(0.693359375)
        r = first - n * np.float32(-2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
        return (p * r * r + r + np.float32(1)) * power.view(np.float32) * alive

    return single


@njit(inline="always", fastmath=_FAST)
def _largest(row, first, last, top):
    for j in range(first, last):
        top = max(top, row[j])
    return top


@njit(inline="always", fastmath=_FAST)
def _exponentials(row, first, last, top, inverse, total):
    for j in range(first, last):
        e = _exp((row[j] - top) * inverse)
        row[j] = e
        total += e
    return total


@njit(inline="always", fastmath=_FAST)
def _scaled(row, first, last, factor, squares):
    for j in range(first, last):
        g = row[j] * factor
        row[j] = g
        squares += g * g
    return squares


@njit(parallel=True, cache=True, fastmath=_FAST)
def softplus_rows(
    matrix, start, end, temperature, tolerance, value, weight, active, absolute, squared
):
    """Terms of the softmax family: softplus(v) for each positive, v = log Σ_negatives e^{s/τ} − s/τ."""
    n = len(matrix)
    number = matrix.dtype.type
    inverse = number(1 / temperature)
    for i in prange(n):
        row, a, b = matrix[i], start[i], end[i]
        top = _largest(row, b, n, _largest(row, 0, a, number(-np.inf)))
        total = _exponentials(row, 0, a, top, inverse, number(0))
        total = _exponentials(row, b, n, top, inverse, total)
        crowded = a > 0 or b < n
        crowd = math.log(np.float64(total)) if crowded else 0.0
        values, weights, squares, count = 0.0, 0.0, 0.0, 0
        for p in range(a, b):
            if p == i or not crowded:
                row[p] = 0
                continue
            # the difference first: both are large where the temperature is small
            v = crowd + (np.float64(top) - np.float64(row[p])) / temperature
            e = math.exp(-abs(v))
            w = 1 / (1 + e) if v > 0 else e / (1 + e)
            term = max(v, 0.0) + math.log1p(e)
            values += term
            weights += w
            count += term > tolerance
            row[p] = -w / temperature
            squares += (w / temperature) ** 2
        factor = number(weights / temperature / total) if crowded else number(0)
        squares += _scaled(row, b, n, factor, _scaled(row, 0, a, factor, number(0)))
        value[i], weight[i], active[i] = values, weights, count
        absolute[i], squared[i] = 2 * weights / temperature, squares


@njit(parallel=True, cache=True, fastmath=_FAST)
def scl_rows(matrix, start, end, temperature, tolerance, value, weight, active, absolute, squared):
    """Terms of the supervised contrastive loss: −(1/|P|) Σ_p log softmax over all others."""
    n = len(matrix)
    number = matrix.dtype.type
    inverse = number(1 / temperature)
    for i in prange(n):
        row, a, b = matrix[i], start[i], end[i]
        positives = b - a - 1
        if positives == 0:
            row[:] = 0
            value[i], weight[i], active[i], absolute[i], squared[i] = 0, 0, 0, 0, 0
            continue
        row[i] = number(-np.inf)
        top = _largest(row, 0, n, number(-np.inf))
        below = 0.0
        for p in range(a, b):
            if p != i:
                below += np.float64(top) - np.float64(row[p])
        outside = _exponentials(
            row, b, n, top, inverse, _exponentials(row, 0, a, top, inverse, number(0))
        )
        row[i] = top
        inside = _exponentials(row, a, b, top, inverse, number(0)) - number(1)
        total = np.float64(inside) + np.float64(outside)
        term = math.log(total) + below / positives / temperature
        row[i] = 0
        factor = number(1 / total / temperature)
        squares = np.float64(_scaled(row, b, n, factor, _scaled(row, 0, a, factor, number(0))))
        sums = np.float64(outside) / total / temperature
        target = number(1 / (positives * temperature))
        for p in range(a, b):
            if p != i:
                g = row[p] * factor - target
                row[p] = g
                sums += abs(g)
                squares += g * g
        value[i], weight[i], active[i] = term, np.float64(outside) / total, term > tolerance
        absolute[i], squared[i] = sums, squares


@njit(inline="always", fastmath=_FAST)
def _square_distances(row, norms, own, floor):
    # within the rounding of its own terms a distance is 0: equal points have no direction between them
    for j in range(len(row)):
        both = own + norms[j]
        distance = both - np.float32(2) * row[j]
        row[j] = distance if distance > floor * both else np.float32(0)


@njit(parallel=True, cache=True, fastmath=_FAST)
def contrastive_rows(
    matrix, start, end, floor, norms, margin, tolerance, value, weight, active, absolute, squared
):
    """Terms of the contrastive loss; `matrix` holds dot products, `norms` the squared norms of its rows."""
    n = len(matrix)
    number = matrix.dtype.type
    edge, tiny = number(margin), number(tolerance)
    for i in prange(n):
        row, a, b = matrix[i], start[i], end[i]
        _square_distances(row, norms, norms[i], number(floor))
        values, weights, sums, squares, count = number(0), number(0), number(0), number(0), 0
        for run in range(2):
            first, last = (0, a) if run == 0 else (b, n)
            for j in range(first, last):
                distance = math.sqrt(row[j])
                short = max(edge - distance, number(0))
                g = short / distance if distance > 0 else number(0)
                values += short * short
                weights += short
                count += short * short > tiny
                sums += g
                squares += g * g
                row[j] = -g
        weights = weights / edge if edge > 0 else number(0)
        for p in range(a, b):
            term = row[p]
            values += term
            weights += min(math.sqrt(term) / number(2), number(1))
            count += term > tiny
            row[p] = 1
        row[i] = 0
        value[i], weight[i], active[i] = values, weights, count
        absolute[i], squared[i] = sums + (b - a - 1), squares + (b - a - 1)


@njit(inline="always", fastmath=_FAST)
def _violations(rivals, reach, strict):
    number = rivals.dtype.type
    values, below, active = number(0), number(0), number(0)
    for j in range(len(rivals)):
        gap = reach - rivals[j]
        values += max(gap, number(0))
        below += np.float32(1) if gap > 0 else np.float32(0)
        active += np.float32(1) if rivals[j] < strict else np.float32(0)
    return values, below, active


@njit(inline="always", fastmath=_FAST)
def _count_reached(rivals, reach, times):
    for j in range(len(rivals)):
        times[j] += np.float32(1) if rivals[j] < reach else np.float32(0)


@njit(parallel=True, cache=True, fastmath=_FAST)
def triplet_rows(
    matrix, start, end, floor, norms, margin, tolerance, value, weight, active, absolute, squared
):
    """Terms of the batch-all triplet loss: an anchor's positives, each against all its negatives.

    Work grows as anchors × positives × negatives, four of them an instruction; memory does not grow.
    """
    n = len(matrix)
    number = matrix.dtype.type
    for i in prange(n):
        row, a, b = matrix[i], start[i], end[i]
        _square_distances(row, norms, norms[i], number(floor))
        rivals = np.empty(n - (b - a), matrix.dtype)
        rivals[:a] = row[:a]
        rivals[a:] = row[b:]
        times = np.zeros(len(rivals), matrix.dtype)
        values, violated, actives, squares = 0.0, 0.0, 0.0, 0.0
        for p in range(a, b):
            if p == i:
                continue
            reach = row[p] + number(margin)
            found, below, above = _violations(rivals, reach, reach - number(tolerance))
            _count_reached(rivals, reach, times)
            values += found
            violated += below
            actives += above
            squares += np.float64(below) * below
            row[p] = below
        row[i] = 0
        for j in range(len(rivals)):
            squares += np.float64(times[j]) * times[j]
        row[:a] = -times[:a]
        row[b:] = -times[a:]
        value[i], weight[i], active[i] = values, violated, np.int64(actives)
        absolute[i], squared[i] = 2 * violated, squares


@njit(parallel=True, cache=True)
def symmetrize(matrix):
    """matrix + matrixᵀ in place, a tile and its mirror at a time."""
    n, side = len(matrix), 32
    tiles = (n + side - 1) // side
    for upper in prange(tiles):
        top, bottom = upper * side, min(n, upper * side + side)
        mirror = np.empty((side, side), matrix.dtype)
        for beside in range(upper, tiles):
            left, right = beside * side, min(n, beside * side + side)
            # by a buffer: columns of a power of two of rows fall into the same few lines of a cache
            for j in range(left, right):
                for i in range(top, bottom):
                    mirror[i - top, j - left] = matrix[j, i]
            for i in range(top, bottom):
                for j in range(left, right):
                    both = matrix[i, j] + mirror[i - top, j - left]
                    mirror[i - top, j - left] = both
                    matrix[i, j] = both
            for j in range(left, right):
                for i in range(top, bottom):
                    matrix[j, i] = mirror[i - top, j - left]


@njit(parallel=True, cache=True, fastmath=_FAST)
def positives_product(matrix, rows, start, end, product, sums):
    """For each row its positives' part of `matrix` @ `rows`, and of the row sums."""
    for i in prange(len(matrix)):
        product[i] = 0
        total = matrix.dtype.type(0)
        for p in range(start[i], end[i]):
            w = matrix[i, p]
            total += w
            for k in range(rows.shape[1]):
                product[i, k] += w * rows[p, k]
        sums[i] = total
