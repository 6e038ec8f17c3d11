"""The data of a kernel: tensors for torch, and the same memory as arrays for compiled code.

Tensors are stored row by row. Tensors without a stated type are float32 or float64, the same for all of a task.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic
from torch import Tensor

HEADER = 4
"""The number of integers in a call before the addresses of the task's tensors: see `threads.run_kernel`."""


PAIR_SETTINGS = 6
"""The length of `PairTask.settings`."""

PAIR_SUMS = 6
"""The rows of `PairTask.sums`."""


class PairTask(NamedTuple):
    """Every sample of a batch against every other sample. `start`, `end` and `norms` are in class order."""

    matrix: Tensor
    """Batch × batch, in class order."""
    rows: Tensor
    """The embeddings, batch × width, in class order."""
    product: Tensor
    """`matrix` @ `rows`."""
    gradient: Tensor
    """Batch × width; this, `pull`, `push`, `sums`, `active` and `positives` are in the batch's own order."""
    norms: Tensor
    """Squared norms of `rows`; empty if the loss takes dot products."""
    pull: Tensor
    push: Tensor
    sums: Tensor
    """Six rows of float64: values, W, Σ|g|, Σg², and two of the loss, in class order, for its `KernelSpec.finish`."""
    settings: Tensor
    """Six of float64: the margin or temperature of the loss, its tolerance, the share of the norms below which a squared
    distance counts as 0 (this share is 0 if the matrix contains dot products), and further settings of the loss."""
    active: Tensor
    """int64, as all fields below."""
    positives: Tensor
    """Positives of each sample, in the batch's own order; `forces` writes it."""
    start: Tensor
    """For each row, the column where its class begins …"""
    end: Tensor
    """… and where it ends."""
    order: Tensor
    """For each row, its number in the batch."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Batch and width."""
        batch, width = self.rows.shape
        return batch, width


class ClassTask(NamedTuple):
    """Every sample of a batch against every class, in the batch's own order."""

    matrix: Tensor
    """Cosines, batch × classes."""
    target: Tensor
    """Each sample's cosine with its own class, after the margin."""
    sums: Tensor
    """Four rows of float64: values, W, Σ|g|, Σg²."""
    settings: Tensor
    """Float64: the loss's scale and its tolerance."""
    active: Tensor
    """int64, as `own_column`."""
    own_column: Tensor
    """Each sample's class."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Batch and classes."""
        batch, classes = self.matrix.shape
        return batch, classes


Task = PairTask | ClassTask
Arrays = Callable[[Any], Any]
"""Compiled: the numbers of a call → the task with arrays instead of tensors."""


@cache
def arrays_of(task: type, dtype: torch.dtype) -> Arrays:
    """The function that reads such a task from the numbers of a call, for tensors of `dtype`."""
    kind = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    return _pair_arrays(kind) if task is PairTask else _class_arrays(kind)


def _pair_arrays(kind: Any) -> Arrays:
    @njit(forceinline=True)
    def arrays(call):
        n, width = call[2], call[3]
        return PairTask(
            carray(pointer(call[HEADER]), (n, n), kind),
            carray(pointer(call[HEADER + 1]), (n, width), kind),
            carray(pointer(call[HEADER + 2]), (n, width), kind),
            carray(pointer(call[HEADER + 3]), (n, width), kind),
            carray(pointer(call[HEADER + 4]), (n,), kind),
            carray(pointer(call[HEADER + 5]), (n,), kind),
            carray(pointer(call[HEADER + 6]), (n,), kind),
            carray(pointer(call[HEADER + 7]), (PAIR_SUMS, n), types.float64),
            carray(pointer(call[HEADER + 8]), (PAIR_SETTINGS,), types.float64),
            carray(pointer(call[HEADER + 9]), (n,), types.int64),
            carray(pointer(call[HEADER + 10]), (n,), types.int64),
            carray(pointer(call[HEADER + 11]), (n,), types.int64),
            carray(pointer(call[HEADER + 12]), (n,), types.int64),
            carray(pointer(call[HEADER + 13]), (n,), types.int64),
        )

    return arrays


def _class_arrays(kind: Any) -> Arrays:
    @njit(forceinline=True)
    def arrays(call):
        n, classes = call[2], call[3]
        return ClassTask(
            carray(pointer(call[HEADER]), (n, classes), kind),
            carray(pointer(call[HEADER + 1]), (n,), kind),
            carray(pointer(call[HEADER + 2]), (4, n), types.float64),
            carray(pointer(call[HEADER + 3]), (2,), types.float64),
            carray(pointer(call[HEADER + 4]), (n,), types.int64),
            carray(pointer(call[HEADER + 5]), (n,), types.int64),
        )

    return arrays


@intrinsic
def pointer(typing_context, address):
    """An address as a pointer for `carray`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate
