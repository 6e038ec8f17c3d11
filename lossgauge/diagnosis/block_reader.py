"""Reads blocks of rows as float32, from memory or from a mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float32, Int64

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


Read = Callable[[Float32[np.ndarray, "rows width"], int], Int64[np.ndarray, " rows"] | None]
"""Fills its first argument with the rows from a number on. Returns exponents where each row was divided by a power of two."""


@contextmanager
def block_reader(array: np.ndarray) -> Iterator[Read]:
    """A function that reads rows as float32; those of float64 are divided by a power of two, so that none overflows or vanishes.

    A mapped float32 file is read in large pieces, which is several times as fast as page by page. Raises DataError if it has become shorter.
    """
    if array.dtype.kind == "f" and array.dtype.itemsize == 8:
        yield lambda out, first: _scaled(out, array[first : first + len(out)])
    elif is_whole_file(array) and array.dtype == np.dtype("<f4"):
        mapped = cast(Any, array)
        with FileIO(mapped.filename) as file:

            def read(out: np.ndarray, first: int) -> None:
                file.seek(mapped.offset + first * mapped.shape[1] * 4)
                _fill(out, file, mapped.filename)

            yield read
    else:

        def copy(out: np.ndarray, first: int) -> None:
            out[:] = array[first : first + len(out)]

        yield copy


def some_rows(array: np.ndarray, numbers: Int64[np.ndarray, " some"]) -> np.ndarray:
    """Some rows in their own type, best asked for in ascending order. A file is read, because a mapped page that has gone ends the process."""
    if not is_whole_file(array):
        return np.asarray(array[numbers])
    mapped = cast(Any, array)
    size = mapped.shape[1] * array.dtype.itemsize
    with FileIO(mapped.filename) as file:
        parts = []
        for number in numbers.tolist():
            file.seek(mapped.offset + number * size)
            parts.append(file.read(size))
    data = b"".join(parts)
    if len(data) != len(numbers) * size:
        raise _shorter(mapped.filename)
    return np.frombuffer(data, array.dtype).reshape(len(numbers), mapped.shape[1])


def _shorter(name: str) -> DataError:
    return DataError(f"{name} ends before its last row: it has changed since it was opened")


def _scaled(out: np.ndarray, rows: np.ndarray) -> Int64[np.ndarray, " rows"]:
    largest = np.abs(rows).max(axis=1)
    exponent = np.frexp(np.where(np.isfinite(largest), largest, 1))[1].astype(np.int64)
    out[:] = np.ldexp(rows, -exponent[:, None].astype(np.int32))
    return exponent


def _fill(out: np.ndarray, file: FileIO, name: str) -> None:
    left = memoryview(cast(Any, out.reshape(-1).view(np.uint8)))
    while len(left):
        size = file.readinto(left)
        if not size:
            raise _shorter(name)
        left = left[size:]
