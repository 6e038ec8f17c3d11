"""The norm of each row of a gradient, of its part across the embedding, and of the embedding: read once, added in float64.

`lg.Probe` asks for them in each step. In torch these are six operations, each of which reads the matrix again.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from numba import carray, types  # type: ignore[attr-defined]
from torch import Tensor

from lossgauge.kernels.machine_code import address_of
from lossgauge.kernels.tasks import pointer
from lossgauge.kernels.vector_math import inlined


def gradient_rows(
    gradient: Float[Tensor, "batch width"], embeddings: Float[Tensor, "batch width"]
) -> Float64[Tensor, "3 batch"]:
    """The three norms of each row, of matrices of one type (float32 or float64) on a CPU, on this thread alone."""
    gradient, embeddings = gradient.contiguous(), embeddings.contiguous()
    numbers = torch.empty(3, len(gradient), dtype=torch.float64)
    call = array(
        "q",
        (*gradient.shape, gradient.data_ptr(), embeddings.data_ptr(), numbers.data_ptr()),
    )
    _function(gradient.dtype)(call.buffer_info()[0])
    return numbers


@cache
def _function(dtype: torch.dtype) -> Callable[[int], Any]:
    kind = {torch.float32: types.float32, torch.float64: types.float64}[dtype]

    def rows(call):
        n, width = call[0], call[1]
        gradient = carray(pointer(call[2]), (n, width), kind)
        embeddings = carray(pointer(call[3]), (n, width), kind)
        numbers = carray(pointer(call[4]), (3, n), types.float64)
        for i in range(n):
            whole, along, length = _products(gradient[i], embeddings[i])
            share = along / length if length > 0 else 0.0
            across = _squares_across(gradient[i], embeddings[i], share)
            numbers[0, i], numbers[1, i] = math.sqrt(whole), math.sqrt(across)
            numbers[2, i] = math.sqrt(length)

    address = address_of(rows, name=f"gradient_rows-{str(dtype).removeprefix('torch.')}")
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


@inlined
def _products(gradient, row):
    """|g|², g·z and |z|²."""
    whole, along, length = 0.0, 0.0, 0.0
    for j in range(len(row)):
        g, z = np.float64(gradient[j]), np.float64(row[j])
        whole += g * g
        along += g * z
        length += z * z
    return whole, along, length


@inlined
def _squares_across(gradient, row, share):
    """|g − share · z|²: as a difference of |g|² and (g·z)²/|z|² a small one would be lost."""
    total = 0.0
    for j in range(len(row)):
        rest = np.float64(gradient[j]) - share * np.float64(row[j])
        total += rest * rest
    return total
