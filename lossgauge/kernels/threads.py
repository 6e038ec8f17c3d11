"""Runs the rows of a kernel on torch's own threads.

numba's parallel loops load a second OpenMP library into the process. On few cores the two disturb each other: an idle
worker of one spins for a while before it sleeps, on the core that a worker of the other needs, and matrix products
take up to three times as long. So the rows run on the threads that torch already has, with the same call that its
compiler would make. If torch has no GNU OpenMP (macOS, Windows), a pool of Python threads runs them without the GIL.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lossgauge.kernels.machine_code import address_of
from lossgauge.kernels.tasks import Task, arrays_of

ROWS_A_PIECE = 32


def run_kernel(kernel: Callable[..., None], task: Task) -> None:
    """`kernel` over all rows of `task`, in place, on as many threads as torch uses.

    Compiled code is called with one address, of these int64: the address of its counters, the number of threads, the
    two sizes of the task, and the addresses of its tensors.
    """
    threads = min(torch.get_num_threads(), -(-task.sizes[0] // ROWS_A_PIECE))
    counters = array("q", bytes(8 * (1 + threads)))
    addresses = [tensor.data_ptr() for tensor in task]
    call = array("q", (counters.buffer_info()[0], threads, *task.sizes, *addresses))
    kind: type = type(task)
    _on_threads(_entry(kernel, kind, task.matrix.dtype), call.buffer_info()[0], threads)


@cache
def _entry(kernel: Callable[..., None], kind: type, dtype: torch.dtype) -> int:
    """The address of the code that each thread runs: `kernel` on parts of a task until all are done."""
    arrays = arrays_of(kind, dtype)

    def pieces(call):
        counters, threads, n = call[0], call[1], call[2]
        task = arrays(call)
        # each thread starts with its own share, which may be in the cache of its core, and then takes parts of others
        share = (n + threads - 1) // threads
        thread = take(counters, 1)
        for turn in range(threads):
            helped = (thread + turn) % threads
            begin, end = helped * share, min(n, helped * share + share)
            first = begin + take(counters + 8 * (helped + 1), ROWS_A_PIECE)
            while first < end:
                kernel(task, first, min(first + ROWS_A_PIECE, end))
                first = begin + take(counters + 8 * (helped + 1), ROWS_A_PIECE)

    return address_of(pieces, name=f"{kernel.__name__}-{str(dtype).removeprefix('torch.')}")


def _on_threads(entry: int, call: int, threads: int) -> None:
    if threads == 1:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)(call)
    elif (parallel := _torch_openmp()) is not None:
        parallel(entry, call, threads, 0)
    else:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)
        list(_pool(threads).map(function, [call] * threads))


@cache
def _torch_openmp() -> Callable[[int, int, int, int], None] | None:
    """The function of GNU OpenMP that starts a parallel region, from the library that torch uses."""
    home = Path(torch.__file__).parent
    for path in (*home.glob("lib/libgomp*.so*"), *home.parent.glob("torch.libs/libgomp*.so*")):
        parallel = ctypes.CDLL(str(path)).GOMP_parallel
        parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        parallel.restype = None
        return parallel
    return None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lossgauge")


@intrinsic
def take(typing_context, counter, amount):
    """The value of the counter before `amount` is added, as one atomic operation."""

    def generate(context, builder, signature, arguments):
        cell = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", cell, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate
