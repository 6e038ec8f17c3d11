"""One pass over a block of rows: norms, directions, hashes, and the moments of each class.

Welford 1962: the mean of a class moves by (row − mean)/n, so a large mean causes no cancellation and no row is read twice.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]

from lossgauge.kernels.machine_code import address_of
from lossgauge.kernels.tasks import pointer
from lossgauge.kernels.vector_math import inlined


class RowBlock(NamedTuple):
    """The arrays of one call, all stored row by row."""

    rows: np.ndarray
    """float32, rows × width."""
    group: np.ndarray
    """int64: the class of each row; becomes −1 for a row of zeros, which counts nowhere."""
    center: np.ndarray
    """float64, width: subtracted from each direction."""
    centered: np.ndarray
    """float32, rows × width, is written: directions minus `center`; 0 for a row of zeros."""
    norms: np.ndarray
    """float64, is written."""
    hashes: np.ndarray
    """uint64, is written: equal for rows with the same numbers; −0 is 0."""
    keys: np.ndarray
    """uint64, width: random odd numbers."""
    sizes: np.ndarray
    """float64, classes: is updated, as `mean` and `scatter`."""
    mean: np.ndarray
    """float64, classes × width: of the directions."""
    scatter: np.ndarray
    """float64, classes: Σ‖direction − mean‖²."""


def pass_rows(block: RowBlock) -> int:
    """Process the block in place, without the interpreter lock. Returns the first row that is not finite, or −1.

    From that row on, nothing is done.
    """
    bad = array("q", [-1])
    arrays = (part.ctypes.data for part in block)
    call = array("q", (*block.rows.shape, len(block.sizes), bad.buffer_info()[0], *arrays))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_entry())(call.buffer_info()[0])
    return bad[0]


@cache
def _entry() -> int:
    return address_of(_pass, name="row_block")


def _pass(call):
    n, width, classes = call[0], call[1], call[2]
    bad = carray(pointer(call[3]), (1,), types.int64)
    rows = carray(pointer(call[4]), (n, width), types.float32)
    bits = carray(pointer(call[4]), (n, width), types.uint32)
    group = carray(pointer(call[5]), (n,), types.int64)
    center = carray(pointer(call[6]), (width,), types.float64)
    centered = carray(pointer(call[7]), (n, width), types.float32)
    norms = carray(pointer(call[8]), (n,), types.float64)
    hashes = carray(pointer(call[9]), (n,), types.uint64)
    keys = carray(pointer(call[10]), (width,), types.uint64)
    sizes = carray(pointer(call[11]), (classes,), types.float64)
    mean = carray(pointer(call[12]), (classes, width), types.float64)
    scatter = carray(pointer(call[13]), (classes,), types.float64)
    for i in range(n):
        squares = _squares(rows[i])
        if not squares < np.inf:
            bad[0] = i
            return
        hashes[i] = _hash(bits[i], keys)
        norm = math.sqrt(squares)
        norms[i] = norm
        if norm == 0:
            centered[i] = 0
            group[i] = -1
            continue
        g = group[i]
        sizes[g] += 1
        scatter[g] += _move(rows[i], 1 / norm, mean[g], 1 / sizes[g], center, centered[i])


@inlined
def _squares(row):
    total = 0.0
    for j in range(len(row)):
        x = np.float64(row[j])
        total += x * x
    return total


@njit(forceinline=True)
def _hash(bits, keys):
    total = np.uint64(0)
    for j in range(len(bits)):
        word = bits[j]
        word = np.uint32(0) if word == np.uint32(0x80000000) else word
        # the low bits of many floats are 0: mix, so that the product with the key uses all 64 bits
        word ^= word >> np.uint32(16)
        word = np.uint32(word * np.uint32(0x85EBCA6B))
        word ^= word >> np.uint32(13)
        total += np.uint64(word) * keys[j]
    return total


@inlined
def _move(row, inverse, mean, step, center, centered):
    """Welford's step for one row; what it adds to the scatter of its class."""
    added = 0.0
    for j in range(len(row)):
        x = np.float64(row[j]) * inverse
        centered[j] = np.float32(x - center[j])
        before = x - mean[j]
        moved = mean[j] + before * step
        mean[j] = moved
        added += before * (x - moved)
    return added
