"""One pass over each row of a batch's matrix, compiled: the terms of a pair loss, and their gradient in place.

The batch is sorted by class, so a row's positives are one run of columns, [start, end), its negatives the
two runs around it, and no loop has a branch that depends on the data. Loops run over slices from 0: a range
between two variables could hold a negative index, and what that would mean keeps the compiler from vectors.
A kernel is given a `Task` (kernels/threads.py) and the rows that are its piece. Each row is summed in one order:
results do not depend on the number of threads. The torch forms beside the losses are the reference, and
serve every other device.

The kernel of a loss overwrites its rows of `matrix` with G, and fills for each: the sum of term values, of W,
the number of active terms, and Σ|g| and Σg².
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload, register_jitable

from lossgauge.kernels.machine_code import address_of
from lossgauge.kernels.threads import ROWS_A_PIECE, Task, pointer, share_out, take

__all__ = ["Task", "sweep"]

# sums may be reordered into vector lanes; NaN and infinity keep their meaning
_FAST = {"reassoc", "nsz", "contract"}
# Helpers are inlined by force. One that is only called is compiled twice, by itself and with its kernel, and summed in
# another order each time: a process that compiles takes the first, one that finds the kernel in the cache the second.
# fewer comparisons than this for an anchor: each with each, sixteen an instruction, beats a sort
_EACH_WITH_EACH = 1 << 20


@intrinsic
def _maximum(typing_context, a, b):
    """The larger of two floats, NaN if one is: Python's max compiles to a branch, which no vector takes."""

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        maximum = builder.module.declare_intrinsic(
            "llvm.maximum", [kind], ir.FunctionType(kind, [kind, kind])
        )
        return builder.call(maximum, arguments)

    return a(a, a), generate


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


def _log1p(x):
    """log(1 + x) for 0 ≤ x ≤ 1, in the type of x.

    In float32 as 2 artanh(x/(2 + x)) by its series, within 3 units in the last place: a small x keeps its digits.
    """
    raise NotImplementedError("compiled only")


@overload(_log1p, jit_options={"fastmath": _FAST})
def _log1p_of(x):
    if x != types.float32:
        return lambda x: math.log1p(x)

    def single(x):
        t = x / (x + np.float32(2))
        q = t * t
        p = np.float32(1 / 15)
        p = p * q + np.float32(1 / 13)
        p = p * q + np.float32(1 / 11)
        p = p * q + np.float32(1 / 9)
        p = p * q + np.float32(1 / 7)
        p = p * q + np.float32(1 / 5)
        p = p * q + np.float32(1 / 3)
        return np.float32(2) * (t + t * q * p)

    return single


@njit(fastmath=_FAST, forceinline=True)
def _sum(row):
    total = row.dtype.type(0)
    for j in range(len(row)):
        total += row[j]
    return total


@njit(fastmath=_FAST, forceinline=True)
def _largest(row, top):
    for j in range(len(row)):
        top = _maximum(top, row[j])
    return top


@njit(fastmath=_FAST, forceinline=True)
def _below(row, top):
    total = 0.0
    for j in range(len(row)):
        total += top - np.float64(row[j])
    return total


@njit(fastmath=_FAST, forceinline=True)
def _exponentials(row, top, inverse):
    total = row.dtype.type(0)
    for j in range(len(row)):
        e = _exp((row[j] - top) * inverse)
        row[j] = e
        total += e
    return np.float64(total)


@njit(fastmath=_FAST, forceinline=True)
def _scaled(row, factor):
    squares = row.dtype.type(0)
    for j in range(len(row)):
        g = row[j] * factor
        row[j] = g
        squares += g * g
    return np.float64(squares)


@njit(fastmath=_FAST, forceinline=True)
def _softplus(row, log_sum_negatives, top, inverse, tolerance):
    number = row.dtype.type
    values, weights, squares, active = number(0), number(0), number(0), number(0)
    one, zero, strength = number(1), number(0), number(inverse)
    for j in range(len(row)):
        # the difference first: both are large where the temperature is small
        v = number(log_sum_negatives + (top - np.float64(row[j])) * inverse)
        e = _exp(-abs(v))
        whole = one / (one + e)
        w = whole if v > zero else e * whole
        term = max(v, zero) + _log1p(e)
        values += term
        weights += w
        active += one if term > tolerance else zero
        g = w * strength
        row[j] = -g
        squares += g * g
    return np.float64(values), np.float64(weights), np.int64(active), np.float64(squares)


@register_jitable(fastmath=_FAST)
def softplus_rows(task, first, last):
    """Terms of the softmax family: softplus(v) for each positive, v = log Σ_negatives e^{s/τ} − s/τ."""
    matrix, _, _, _, _, _, _, sums, settings, active, start, end, order = task
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    temperature, tolerance = settings[0], settings[1]
    n = len(matrix)
    number = matrix.dtype.type
    inverse = 1 / temperature
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        if b - a == n:  # no negative
            row[:] = 0
            value[own], weight[own], active[own], absolute[own], squared[own] = 0, 0, 0, 0, 0
            continue
        before, after = row[:a], row[b:]
        top = _largest(before, _largest(after, number(-np.inf)))
        total = _exponentials(before, top, number(inverse))
        total += _exponentials(after, top, number(inverse))
        log_sum_negatives, bar = math.log(total), number(tolerance)
        values, weights, count, squares = _softplus(
            row[a:i], log_sum_negatives, np.float64(top), inverse, bar
        )
        v, w, c, s = _softplus(row[i + 1 : b], log_sum_negatives, np.float64(top), inverse, bar)
        row[i] = 0
        weights += w
        factor = number(weights * inverse / total)
        squares += s + _scaled(before, factor) + _scaled(after, factor)
        value[own], weight[own], active[own] = values + v, weights, count + c
        absolute[own], squared[own] = 2 * weights * inverse, squares


@register_jitable(fastmath=_FAST)
def class_rows(task, first, last):
    """Terms of a softmax over classes: softplus(v), v = log Σ_rivals e^{s·cos} − s·target.

    `start` is each row's own column, `norms` its cosine after the margin. G is the rivals' part alone: 0 at the
    own column, where the gradient is −s·W times the margin's slope.
    """
    matrix, _, _, _, target, _, _, sums, settings, active, own_column, _, _ = task
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    scale, tolerance = settings[0], settings[1]
    number = matrix.dtype.type
    for i in range(first, last):
        row = matrix[i]
        row[own_column[i]] = number(-np.inf)
        top = _largest(row, number(-np.inf))
        if len(row) == 1:  # no rival
            row[0] = 0
            value[i], weight[i], active[i], absolute[i], squared[i] = 0, 0, 0, 0, 0
            continue
        total = _exponentials(row, top, number(scale))
        v = math.log(total) + (np.float64(top) - np.float64(target[i])) * scale
        e = math.exp(-abs(v))
        w = 1 / (1 + e) if v > 0 else e / (1 + e)
        term = max(v, 0.0) + math.log1p(e)
        squared[i] = _scaled(row, number(w * scale / total))
        value[i], weight[i], active[i], absolute[i] = term, w, term > tolerance, w * scale


@njit(fastmath=_FAST, forceinline=True)
def _off_target(row, factor, target):
    number = row.dtype.type
    sums, squares = number(0), number(0)
    for j in range(len(row)):
        g = row[j] * factor - target
        row[j] = g
        sums += abs(g)
        squares += g * g
    return np.float64(sums), np.float64(squares)


@register_jitable(fastmath=_FAST)
def scl_rows(task, first, last):
    """Terms of the supervised contrastive loss: −(1/|P|) Σ_p log softmax over all others."""
    matrix, _, _, _, _, _, _, sums, settings, active, start, end, order = task
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    temperature, tolerance = settings[0], settings[1]
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
        top = _largest(row, number(-np.inf))
        row[i] = 0
        below = _below(left, np.float64(top)) + _below(right, np.float64(top))
        inside = _exponentials(left, top, inverse) + _exponentials(right, top, inverse)
        outside = _exponentials(before, top, inverse) + _exponentials(after, top, inverse)
        total = inside + outside
        term = math.log(total) + below / positives / temperature
        factor, target = number(1 / total / temperature), number(1 / (positives * temperature))
        sums, squares = _off_target(left, factor, target)
        more_sums, more_squares = _off_target(right, factor, target)
        squares += more_squares + _scaled(before, factor) + _scaled(after, factor)
        value[own], weight[own], active[own] = term, outside / total, term > tolerance
        absolute[own], squared[own] = sums + more_sums + outside / total / temperature, squares


@njit(fastmath=_FAST, forceinline=True)
def _square_distances(row, norms, own, floor):
    # within the rounding of its own terms a distance is 0: equal points have no direction between them
    number = row.dtype.type
    for j in range(len(row)):
        both = own + norms[j]
        distance = both - number(2) * row[j]
        row[j] = distance if distance > floor * both else number(0)


@njit(fastmath=_FAST, forceinline=True)
def _repelled(row, margin, tolerance):
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


@njit(fastmath=_FAST, forceinline=True)
def _attracted(row, tolerance):
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


@register_jitable(fastmath=_FAST)
def contrastive_rows(task, first, last):
    """Terms of the contrastive loss; `matrix` holds dot products, `norms` the squared norms of its rows."""
    matrix, _, _, _, norms, _, _, sums, settings, active, start, end, order = task
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    margin, tolerance, floor = settings[0], settings[1], settings[2]
    number = matrix.dtype.type
    edge, bar = number(margin), number(tolerance)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        _square_distances(row, norms, norms[i], number(floor))
        row[i] = 0
        values, weights, count, sums, squares = _repelled(row[:a], edge, bar)
        v, w, c, s, q = _repelled(row[b:], edge, bar)
        weights = (weights + w) / margin if margin > 0 else 0.0
        near, pulls, moving = _attracted(row[a:b], bar)
        row[i] = 0
        value[own], weight[own], active[own] = (
            values + v + near,
            weights + pulls,
            count + c + moving,
        )
        positives = b - a - 1
        absolute[own], squared[own] = sums + s + positives, squares + q + positives


@njit(fastmath=_FAST, forceinline=True)
def _compare_each(reach, rivals, tolerance, below, times):
    """How many rivals each positive's reach passes, how many reaches each rival is passed by, and the active.

    Four positives a round: a rival is read once for all of them.
    """
    one, zero = np.float32(1), np.float32(0)
    times[:] = 0
    active = 0
    positives = len(reach)
    for p in range(0, positives - 3, 4):
        r0, r1, r2, r3 = reach[p], reach[p + 1], reach[p + 2], reach[p + 3]
        s0, s1, s2, s3 = r0 - tolerance, r1 - tolerance, r2 - tolerance, r3 - tolerance
        b0, b1, b2, b3, strictly = zero, zero, zero, zero, zero
        for j in range(len(rivals)):
            rival = rivals[j]
            m0 = one if rival < r0 else zero
            m1 = one if rival < r1 else zero
            m2 = one if rival < r2 else zero
            m3 = one if rival < r3 else zero
            b0 += m0
            b1 += m1
            b2 += m2
            b3 += m3
            times[j] += (m0 + m1) + (m2 + m3)
            strictly += (one if rival < s0 else zero) + (one if rival < s1 else zero)
            strictly += (one if rival < s2 else zero) + (one if rival < s3 else zero)
        below[p], below[p + 1], below[p + 2], below[p + 3] = b0, b1, b2, b3
        active += np.int64(strictly)
    for p in range(positives - positives % 4, positives):
        r0, s0, b0, strictly = reach[p], reach[p] - tolerance, zero, zero
        for j in range(len(rivals)):
            m0 = one if rivals[j] < r0 else zero
            b0 += m0
            times[j] += m0
            strictly += one if rivals[j] < s0 else zero
        below[p] = b0
        active += np.int64(strictly)
    return active


@njit(fastmath=_FAST, forceinline=True)
def _ranks(ladder, values, ranks):
    """How many of `ladder` (ascending, a power of two of them) are at most each value: a binary search, all at once.

    Unsigned, so that no index can be negative and the search compiles to vector gathers.
    """
    ranks[:] = 0
    step = len(ladder) >> 1
    while step:
        there, last = np.uint32(step), np.uint32(step - 1)
        for j in range(len(values)):
            rank = ranks[j]
            passed = ladder[np.uint32(rank + last)] <= values[j]
            ranks[j] = np.uint32(rank + there) if passed else rank
        step >>= 1


@njit(fastmath=_FAST, forceinline=True)
def _compare_sorted(reach, rivals, tolerance, below, times):
    """What `_compare_each` gives, where there are too many to compare each."""
    number = reach.dtype.type
    positives = len(reach)
    size = 1
    while size <= positives:
        size *= 2
    ladder = np.full(size, number(np.inf), reach.dtype)
    ladder[:positives] = reach
    ladder[:positives].sort()
    ranks = np.empty(len(rivals), np.uint32)
    _ranks(ladder, rivals, ranks)
    passed = np.zeros(size, np.int64)
    for j in range(len(rivals)):
        passed[ranks[j]] += 1
        times[j] = number(positives) - number(ranks[j])
    for k in range(1, size):
        passed[k] += passed[k - 1]
    heights = np.empty(positives, np.uint32)
    _ranks(ladder, reach, heights)
    for p in range(positives):
        below[p] = number(passed[heights[p] - 1])
    ladder -= tolerance
    _ranks(ladder, rivals, ranks)
    active = 0
    for j in range(len(rivals)):
        active += positives - np.int64(ranks[j])
    return active


@register_jitable(fastmath=_FAST)
def triplet_rows(task, first, last):
    """Terms of the batch-all triplet loss: an anchor's positives, each against all its negatives.

    A positive's reach is its squared distance plus the margin; it violates the negatives nearer than that.
    Then Σ [reach − rival]₊ = Σ_p below_p · reach_p − Σ_n times_n · rival_n: only the counts need every pair.
    """
    matrix, _, _, _, norms, _, _, sums, settings, active, start, end, order = task
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    margin, tolerance, floor = settings[0], settings[1], settings[2]
    n = len(matrix)
    number = matrix.dtype.type
    bar, edge = number(tolerance), number(margin)
    for i in range(first, last):
        row, a, b, own = matrix[i], start[i], end[i], order[i]
        _square_distances(row, norms, norms[i], number(floor))
        positives, negatives = b - a - 1, n - (b - a)
        reach, rivals = np.empty(positives, matrix.dtype), np.empty(negatives, matrix.dtype)
        reach[: i - a], reach[i - a :] = row[a:i], row[i + 1 : b]
        rivals[:a], rivals[a:] = row[:a], row[b:]
        for p in range(positives):
            reach[p] += edge
        below, times = np.empty_like(reach), np.empty_like(rivals)
        if positives * negatives <= _EACH_WITH_EACH:
            active[own] = _compare_each(reach, rivals, bar, below, times)
        else:
            active[own] = _compare_sorted(reach, rivals, bar, below, times)
        values, violated, squares = 0.0, 0.0, 0.0
        for p in range(positives):
            count = np.float64(below[p])
            values += count * np.float64(reach[p])
            violated += count
            squares += count * count
        for j in range(negatives):
            count = np.float64(times[j])
            values -= count * np.float64(rivals[j])
            squares += count * count
            times[j] = -times[j]
        row[:a], row[b:] = times[:a], times[a:]
        row[a:i], row[i], row[i + 1 : b] = below[: i - a], 0, below[i - a :]
        value[own], weight[own] = values, violated
        absolute[own], squared[own] = 2 * violated, squares


@register_jitable
def symmetrize(task, first, last):
    """matrix + matrixᵀ in place: the band of rows from `first`, and its mirror, right of and below the diagonal."""
    matrix = task[0]
    n, side = len(matrix), last - first
    # by a buffer: columns of a power of two of rows fall into the same few lines of a cache
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


@njit(fastmath=_FAST, forceinline=True)
def _weighted(weights, others, target):
    """Σ weights and, into `target`, weights @ others: four at a time, so that `target` is touched once for them."""
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


@register_jitable(fastmath=_FAST)
def forces(task, first, last):
    """From G + Gᵀ and its product with the rows: the gradient, and the norms of its parts, pull and push."""
    matrix, rows, product, gradient, _, pull, push, _, settings, _, start, end, order = task
    number = matrix.dtype.type
    distances, two = settings[2] > 0, number(2)
    pulled = np.empty(rows.shape[1], matrix.dtype)
    for i in range(first, last):
        a, b, own = start[i], end[i], order[i]
        row, whole, target = rows[i], product[i], gradient[own]
        positives = _weighted(matrix[i, a:b], rows[a:b], pulled)
        if b - a == len(rows):  # no negatives: no push, not the rounding of two products
            whole[:] = pulled
        if distances:  # Σ_j 2·w_ij·(r_i − r_j)
            total = positives if b - a == len(rows) else _sum(matrix[i])
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


def sweep(kernel: Callable[..., None], task: Task) -> None:
    """`kernel` over all rows of `task`, in place."""
    share_out(_entry(kernel, task.matrix.dtype), task)


@cache
def _entry(kernel: Callable[..., None], dtype: torch.dtype) -> int:
    """The address of what each thread runs: pieces of a `Task` by `kernel` until none is left."""
    kind = {torch.float32: types.float32, torch.float64: types.float64}[dtype]

    def pieces(plan):
        counters, threads, n, columns, width = plan[0], plan[1], plan[2], plan[3], plan[4]
        task = (
            carray(pointer(plan[5]), (n, columns), kind),
            carray(pointer(plan[6]), (n, width), kind),
            carray(pointer(plan[7]), (n, width), kind),
            carray(pointer(plan[8]), (n, width), kind),
            carray(pointer(plan[9]), (n,), kind),
            carray(pointer(plan[10]), (n,), kind),
            carray(pointer(plan[11]), (n,), kind),
            carray(pointer(plan[12]), (4, n), types.float64),
            carray(pointer(plan[13]), (3,), types.float64),
            carray(pointer(plan[14]), (n,), types.int64),
            carray(pointer(plan[15]), (n,), types.int64),
            carray(pointer(plan[16]), (n,), types.int64),
            carray(pointer(plan[17]), (n,), types.int64),
        )
        # each thread begins with a share of its own, which its core's cache may hold, and then helps the others
        share = (n + threads - 1) // threads
        thread = take(counters, 1)
        for turn in range(threads):
            helped = (thread + turn) % threads
            begin, end = helped * share, min(n, helped * share + share)
            first = begin + take(counters + 8 * (helped + 1), ROWS_A_PIECE)
            while first < end:
                kernel(task, first, min(first + ROWS_A_PIECE, end))
                first = begin + take(counters + 8 * (helped + 1), ROWS_A_PIECE)

    return address_of(pieces, name=f"{kernel.__name__}-{kind}")
