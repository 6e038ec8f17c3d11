"""Arithmetic over a row of numbers for all kernels, compiled to vector instructions.

Loops run over slices from 0: a range between two variables could contain a negative index, and handling it
would prevent vector instructions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload, register_jitable

FAST = {"reassoc", "nsz", "contract"}
"""Sums may be reordered into vector lanes; NaN and infinity keep their meaning."""

# As in numpy, x/0 is infinite: numba's check for a divisor of 0 is a branch, which prevents vector instructions.
_OPTIONS: Any = {"fastmath": FAST, "error_model": "numpy"}

over_rows = register_jitable(**_OPTIONS)
"""Decorates a kernel, which gets a task and a range of its rows."""

# Helpers are always inlined. A helper that is only called is compiled twice, alone and with its kernel, and each version
# sums in another order: a process that compiles would run the first, and one that reads the cache would run the second.
inlined = njit(**_OPTIONS, forceinline=True)
"""Decorates a helper of kernels."""


@intrinsic
def maximum(typing_context, a, b):
    """The larger of two floats, NaN if one is NaN. Python's max compiles to a branch, which prevents vector instructions."""

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        maximum = builder.module.declare_intrinsic(
            "llvm.maximum", [kind], ir.FunctionType(kind, [kind, kind])
        )
        return builder.call(maximum, arguments)

    return a(a, a), generate


def exp(x):
    """e^x for x ≤ 0, in the type of x.

    In float32 a polynomial, which compiles to vector instructions (the function of libm does not): within 3 units in
    the last place (Cephes' expf); 0 below −87.
    """
    raise NotImplementedError("compiled only")


@overload(exp, jit_options=_OPTIONS)
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


def log1p(x):
    """log(1 + x) for 0 ≤ x ≤ 1, in the type of x.

    In float32 the series of 2 artanh(x/(2 + x)), within 3 units in the last place; a small x loses no digits.
    """
    raise NotImplementedError("compiled only")


@overload(log1p, jit_options=_OPTIONS)
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


@inlined
def sum_of(row):
    total = row.dtype.type(0)
    for j in range(len(row)):
        total += row[j]
    return total


@inlined
def below(row, top):
    """Σ(top − s) over the entries s."""
    total = 0.0
    for j in range(len(row)):
        total += top - np.float64(row[j])
    return total


@inlined
def largest(row, top):
    for j in range(len(row)):
        top = maximum(top, row[j])
    return top


@inlined
def smallest(row, low):
    for j in range(len(row)):
        low = -maximum(-low, -row[j])
    return low


@inlined
def exponentials(row, top, inverse):
    total = row.dtype.type(0)
    for j in range(len(row)):
        e = exp((row[j] - top) * inverse)
        row[j] = e
        total += e
    return np.float64(total)


@inlined
def scale_row(row, factor):
    squares = row.dtype.type(0)
    for j in range(len(row)):
        g = row[j] * factor
        row[j] = g
        squares += g * g
    return np.float64(squares)
