"""Reads blocks of rows as float32, from memory or from a mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any, cast

import numpy as np
from jaxtyping import Float32

from lossgauge.errors import DataError


@contextmanager
def block_reader(
    array: np.ndarray,
) -> Iterator[Callable[[Float32[np.ndarray, "rows width"], int], None]]:
    """A function that fills its first argument with the rows from a number on.

    A mapped float32 file is read in large pieces, which is several times as fast as page by page. Raises DataError if it has become shorter.
    """
    # a part of a mapped array has the offset of the whole, so only the whole is read as a file
    whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
    if not whole or array.dtype != np.dtype("<f4") or not array.flags.c_contiguous:

        def copy(out: np.ndarray, first: int) -> None:
            with np.errstate(over="ignore"):
                out[:] = array[first : first + len(out)]

        yield copy
        return
    mapped = cast(Any, array)
    with FileIO(mapped.filename) as file:

        def read(out: np.ndarray, first: int) -> None:
            file.seek(mapped.offset + first * mapped.shape[1] * 4)
            left = memoryview(cast(Any, out.reshape(-1).view(np.uint8)))
            while len(left):
                size = file.readinto(left)
                if not size:
                    raise DataError(
                        f"{mapped.filename} ends before its last row: it has changed since it was opened"
                    )
                left = left[size:]

        yield read
