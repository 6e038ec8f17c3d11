"""A kernel's rows, shared out among torch's own threads.

numba's parallel loops bring a second OpenMP library into the process. On few cores the two then fight: an idle
worker spins for a while before it sleeps, on the core that the other library's worker waits for, and products
take up to three times as long. So rows go to the threads that torch has already, by the call its compiler would
make; where torch has no GNU OpenMP (macOS, Windows), to a pool of Python threads without the lock.
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
    threads = min(torch.get_num_threads(), -(-len(task.matrix) // ROWS_A_PIECE))
    counters = array("q", bytes(8 * (1 + threads)))
    addresses = (tensor.data_ptr() for tensor in task)
    call = array("q", (counters.buffer_info()[0], threads, *task.sizes, *addresses))
    kind: type = type(task)
    _on_threads(_entry(kernel, kind, task.matrix.dtype), call.buffer_info()[0], threads)


@cache
def _entry(kernel: Callable[..., None], kind: type, dtype: torch.dtype) -> int:
    """The address of what each thread runs: `kernel` on pieces of a task until none is left."""
    arrays = arrays_of(kind, dtype)

    def pieces(call):
        counters, threads, n = call[0], call[1], call[2]
        task = arrays(call)
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
    """GNU OpenMP's entry to a parallel region, from the library that torch itself runs on."""
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
    """The counter's value before `amount` is added, in one step that no other thread can divide."""

    def generate(context, builder, signature, arguments):
        cell = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", cell, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate
