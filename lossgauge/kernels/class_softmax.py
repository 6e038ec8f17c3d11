"""A softmax over classes: softplus(v) for each sample, v = log Σ_other classes e^{s·cos} − s·target."""

from __future__ import annotations

import math

import numpy as np

from lossgauge.kernels.vector_math import exponentials, largest, over_rows, scale_row


@over_rows
def class_rows(task, first, last):
    """A term for each sample of a `ClassTask`.

    The gradient contains only the part of the negatives: it is 0 at the own column, where it would be −s·W times the slope of the margin.
    """
    matrix, target, own_column = task.matrix, task.target, task.own_column
    sums, active = task.sums, task.active
    value, weight, absolute, squared = sums[0], sums[1], sums[2], sums[3]
    scale, tolerance = task.settings[0], task.settings[1]
    number = matrix.dtype.type
    for i in range(first, last):
        row = matrix[i]
        row[own_column[i]] = number(-np.inf)
        top = largest(row, number(-np.inf))
        if len(row) == 1:  # without a negative
            row[0] = 0
            value[i], weight[i], active[i], absolute[i], squared[i] = 0, 0, 0, 0, 0
            continue
        total = exponentials(row, top, number(scale))
        v = math.log(total) + (np.float64(top) - np.float64(target[i])) * scale
        e = math.exp(-abs(v))
        w = 1 / (1 + e) if v > 0 else e / (1 + e)
        term = max(v, 0.0) + math.log1p(e)
        squared[i] = scale_row(row, number(w * scale / total))
        value[i], weight[i], active[i], absolute[i] = term, w, term > tolerance, w * scale
