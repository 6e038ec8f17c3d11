"""A kernel's rows, shared out among torch's own threads.

numba's parallel loops bring a second OpenMP team into the process. On few cores the two then fight: an idle
worker spins for a while before it sleeps, on the core that the other team's worker waits for, and products
take up to three times as long. So rows go to the team that torch has already, by the call its compiler would
make; where torch has no GNU OpenMP (macOS, Windows), to a pool of Python threads without the lock.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

ROWS_A_PIECE = 32


class Task(NamedTuple):
    """What every kernel is given: tensors in memory as read, row by row. Those without a type are float32 or float64, all alike."""

    matrix: Tensor
    """Batch × columns: the batch again, or the classes."""
    rows: Tensor
    """The embeddings, batch × width, in class order."""
    product: Tensor
    """`matrix` @ `rows`."""
    gradient: Tensor
    """Batch × width; this and all below but `norms`, `start` and `end` in the batch's own order."""
    norms: Tensor
    """Squared norms of `rows`."""
    pull: Tensor
    push: Tensor
    sums: Tensor
    """Four rows of float64: values, W, Σ|g|, Σg²."""
    settings: Tensor
    """Float64: the loss's margin or temperature, its tolerance, and below which share of the norms a squared
    distance counts as 0; that is 0 where the matrix holds dot products."""
    active: Tensor
    """int64, as all below."""
    start: Tensor
    """For each row in class order, where its class begins among the columns …"""
    end: Tensor
    """… and where it ends."""
    order: Tensor
    """For each row in class order, its number in the batch."""


def share_out(entry: int, task: Task) -> None:
    """The code at `entry` on as many threads as torch uses: each takes pieces of `task` until none is left."""
    (batch, columns), width = task.matrix.shape, task.rows.shape[-1]
    threads = min(torch.get_num_threads(), -(-batch // ROWS_A_PIECE))
    counters = array("q", bytes(8 * (1 + threads)))
    numbers = (counters.buffer_info()[0], threads, batch, columns, width)
    plan = array("q", (*numbers, *(tensor.data_ptr() for tensor in task)))
    _run(entry, plan.buffer_info()[0], threads)


def _run(entry: int, plan: int, threads: int) -> None:
    if threads == 1:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)(plan)
    elif (team := _torch_team()) is not None:
        team(entry, plan, threads, 0)
    else:
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)
        list(_pool(threads).map(call, [plan] * threads))


@cache
def _torch_team() -> Callable[[int, int, int, int], None] | None:
    """GNU OpenMP's entry to a parallel region, from the library that torch itself runs on."""
    home = Path(torch.__file__).parent
    for path in (*home.glob("lib/libgomp*.so*"), *home.parent.glob("torch.libs/libgomp*.so*")):
        team = ctypes.CDLL(str(path)).GOMP_parallel
        team.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        team.restype = None
        return team
    return None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lossgauge")


@intrinsic
def take(typing_context, counter, amount):
    """The counter's value before `amount` is added, in one step that no other thread can divide."""

    def generate(context, builder, signature, arguments):
        cell = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", cell, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def pointer(typing_context, address):
    """An address, as `carray` takes it."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate
