"""Reads blocks of rows as float32, from memory or from a mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float32

from lossgauge.errors import DataError


class Mapped(NamedTuple):
    """Where a mapped array is: a pickle of the array itself would hold all its rows."""

    path: str
    dtype: str
    offset: int
    shape: tuple[int, ...]


def is_whole_file(array: np.ndarray) -> bool:
    """Whether an array is mapped as it was opened; a part of it would name the offset of the whole."""
    whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
    return whole and array.flags.c_contiguous


def reference(array: np.ndarray) -> np.ndarray | Mapped:
    """What another process needs to have the array."""
    if not is_whole_file(array):
        return array
    mapped = cast(Any, array)
    return Mapped(str(mapped.filename), array.dtype.str, mapped.offset, array.shape)


def opened(array: np.ndarray | Mapped) -> np.ndarray:
    if isinstance(array, Mapped):
        return np.memmap(array.path, array.dtype, "r", array.offset, array.shape)
    return array


@contextmanager
def block_reader(
    array: np.ndarray,
) -> Iterator[Callable[[Float32[np.ndarray, "rows width"], int], None]]:
    """A function that fills its first argument with the rows from a number on.

    A mapped float32 file is read in large pieces, which is several times as fast as page by page. Raises DataError if it has become shorter.
    """
    if not is_whole_file(array) or array.dtype != np.dtype("<f4"):

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
