"""Relaxed contrastive learning: the terms of InfoNCE, and a penalty of each sample's least similar positive."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.info_nce import softplus_rows
from lossgauge.kernels.vector_math import inlined, over_rows


@inlined
def _add(target, row, factor):
    for k in range(len(target)):
        target[k] += row[k] * factor


@over_rows
def relaxed_rows(task, first, last):
    """A term for each positive of a sample; `matrix` holds dot products, and becomes the gradient without the penalty.

    The further sums are the strength of each row's penalty and the column where it acts, −1 for none.
    """
    matrix, sums, start, end, order = task.matrix, task.sums, task.start, task.end, task.order
    value, absolute, squared, strength, column = sums[0], sums[2], sums[3], sums[4], sums[5]
    temperature, penalty_weight, threshold = task.settings[0], task.settings[3], task.settings[4]
    number = matrix.dtype.type
    terms, anchors = 0, 0
    for i in range(len(matrix)):
        terms += end[i] - start[i] - 1
        anchors += end[i] - start[i] > 1
    for i in range(first, last):
        row, least, place = matrix[i], number(np.inf), -1
        for j in range(start[i], end[i]):
            if j != i and row[j] < least:
                least, place = row[j], j
        strength[i], column[i] = least, place if least >= number(threshold) else -1
    softplus_rows(task, first, last)
    for i in range(first, last):
        place, own = np.int64(column[i]), order[i]
        if place < 0:
            strength[i] = 0
            continue
        # the reducer divides by InfoNCE's terms, and the penalty is a mean over anchors
        factor = penalty_weight * terms / anchors
        v = (strength[i] - 1) / temperature
        e = math.exp(-abs(v))
        share = 1 / (1 + e) if v > 0 else e / (1 + e)
        push = factor * share / temperature
        pull = np.float64(matrix[i, place])
        strength[i] = push
        value[own] += factor * (max(v, 0.0) + math.log1p(e))
        absolute[own] += abs(pull + push) - abs(pull)
        squared[own] += (pull + push) ** 2 - pull**2


@over_rows
def penalties(task, first, last):
    """Adds the forces of the penalties to `product`: each pushes a sample and its least similar positive apart."""
    rows, product, start, end = task.rows, task.product, task.start, task.end
    strength, column = task.sums[4], task.sums[5]
    number = rows.dtype.type
    for i in range(first, last):
        if column[i] >= 0:
            _add(product[i], rows[np.int64(column[i])], number(strength[i]))
        for k in range(start[i], end[i]):
            if column[k] == i:
                _add(product[i], rows[k], number(strength[k]))
