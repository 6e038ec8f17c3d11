"""Arrays by name from one file: .npz, .npy, .safetensors or .parquet. Nothing is unpickled."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossgauge.data.locations import reason_of, regular
from lossgauge.data.row_checks import check_names_once
from lossgauge.errors import DataError

_FLOATS = (torch.float16, torch.float32, torch.float64)
_Reading = tuple[dict[str, Any], list[str]]
"""The requested arrays or columns that the file has, and the names of all it has."""
# the errors of numpy and zipfile for bytes that are not arrays
_NOT_ARRAYS = (
    OSError, ValueError, EOFError, AttributeError, TypeError, NotImplementedError, RuntimeError, MemoryError,
    SyntaxError, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def _read_npz(path: Path, names: Sequence[str]) -> _Reading:
    try:
        # opened here, because numpy leaves a damaged archive open
        with regular(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array (an .npy file)")
            check_names_once(path, [name for name in arrays.files if name in names])
            return {name: arrays[name] for name in names if name in arrays.files}, arrays.files
    except DataError:
        raise
    except _NOT_ARRAYS as error:
        raise _not_read(path, error) from None


def _not_read(path: Path, error: Exception) -> DataError:
    if "Object arrays" in str(error):
        return DataError(
            f"{path} cannot be read as {path.suffix}: it holds an array of Python objects; save text with labels.astype(str), "
            "and numbers with .astype(float) or .astype(int)"
        )
    if "pickled" in str(error):  # numpy takes all bytes that it does not know for a pickle
        return DataError(
            f"{path} cannot be read as {path.suffix}: it is not a {path.suffix} file; write it with "
            f"numpy.save{'z' if path.suffix == '.npz' else ''}"
        )
    return DataError(f"{path} cannot be read as {path.suffix}: {reason_of(error)}")


def _read_npy(path: Path, names: Sequence[str]) -> _Reading:
    return {names[0]: load_npy(path)}, [names[0]]


def _map_npy(path: Path, names: Sequence[str]) -> _Reading:
    """The array stays in the file, and its parts are read when they are used."""
    try:
        array = np.load(regular(path), mmap_mode="r", allow_pickle=False)
    except DataError:
        raise
    except _NOT_ARRAYS:  # an empty array cannot be mapped, and another error is said there
        array = load_npy(path)
    if not isinstance(array, np.ndarray):
        array = load_npy(path)
    return {names[0]: array}, [names[0]]


def load_npy(path: Path) -> np.ndarray:
    """The array of an .npy file. Raises DataError if it is not one."""
    try:
        with regular(path).open("rb") as file:
            array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays (an .npz file)")
        return array
    except DataError:
        raise
    except _NOT_ARRAYS as error:
        raise _not_read(path, error) from None


def _read_safetensors(path: Path, names: Sequence[str]) -> _Reading:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(regular(path), framework="pt") as tensors:
            there = list(tensors.keys())
            tensors_by_name = {name: tensors.get_tensor(name) for name in names if name in there}
    except DataError:
        raise
    except (SafetensorError, OSError, *_NOT_ARRAYS) as error:
        raise DataError(f"{path} cannot be read as .safetensors: {reason_of(error)}") from None
    # numpy has no bfloat16 and no float8
    small = {
        name
        for name, t in tensors_by_name.items()
        if t.is_floating_point() and t.dtype not in _FLOATS
    }
    return {
        name: (tensor.float() if name in small else tensor).numpy()
        for name, tensor in tensors_by_name.items()
    }, there


def _map_safetensors(path: Path, names: Sequence[str]) -> _Reading:
    """The first of `names` stays in the file, if numpy knows its type."""
    arrays, there = _read_safetensors(path, names[1:])
    if names[0] not in there:
        return arrays, there
    with regular(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(length))[names[0]]
    dtype = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}.get(head["dtype"])
    first, last = head["data_offsets"]
    if dtype is None or last == first:
        return arrays | _read_safetensors(path, names[:1])[0], there
    mapped = np.memmap(path, dtype, "r", 8 + length + first, tuple(head["shape"]))
    return arrays | {names[0]: mapped}, there


def has_array(path: Path, name: str) -> bool:
    """Whether a .safetensors file has an array with this name; False for .npy, whose one array has no name."""
    return path.suffix == ".safetensors" and name in _read_safetensors(path, ())[1]


def row_count(path: Path, name: str) -> int:
    """Rows of the embeddings in an .npy or .safetensors file, from its header; 0 without an array of this name."""
    if path.suffix == ".npy":
        try:
            shape = np.load(regular(path), mmap_mode="r", allow_pickle=False).shape
        except _NOT_ARRAYS as error:
            raise DataError(f"{path} cannot be read as .npy: {reason_of(error)}") from None
    else:
        shape = _safetensors_shape(path, name)
    return shape[0] if shape else 0


def _safetensors_shape(path: Path, name: str) -> tuple[int, ...]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(regular(path), framework="pt") as tensors:
            there = list(tensors.keys())
            return tuple(tensors.get_slice(name).get_shape()) if name in there else ()
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read as .safetensors: {reason_of(error)}") from None


def _read_parquet(path: Path, names: Sequence[str]) -> _Reading:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(regular(path))
        there = file.schema_arrow.names
        check_names_once(path, [name for name in there if name in names])
        table = file.read(columns=[name for name in names if name in there])
        columns: dict[str, Any] = {
            name: table[name].to_pylist() for name in names[1:] if name in there
        }
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error)}") from None
    if names[0] in there:
        columns[names[0]] = list_rows(table[names[0]], path, names[0])
    return columns, there


def list_rows(column: Any, path: Path, name: str) -> np.ndarray:
    """A list column as one array, chunk by chunk: the offsets of a large joined one would overflow."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise DataError(
            f"the column {name!r} of {path} must have a list of floats in each row, got {kind}"
        )
    widths = np.concatenate(
        [
            np.empty(0, np.int64),
            *(pc.fill_null(pc.list_value_length(c), -1).to_numpy(False) for c in column.chunks),
        ]
    )
    if not len(widths):
        return np.empty((0, 0), dtype=np.float32)
    odd = np.flatnonzero(widths != widths[0])
    missing = np.flatnonzero(widths < 0)
    if len(missing):
        raise DataError(
            f"every row needs an embedding, but {path}, row {missing[0]} has no embedding "
            f"({len(missing)} of {len(widths)} rows have none): remove those rows"
        )
    if len(odd):
        raise DataError(
            f"all embeddings must have the same width, but {path}, row {odd[0]} has {widths[odd[0]]} numbers "
            f"and row 0 has {widths[0]}"
        )
    # a missing number becomes NaN, which is refused later
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(values).reshape(len(widths), -1)


READERS: dict[str, Callable[[Path, Sequence[str]], _Reading]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}

MAPPERS: dict[str, Callable[[Path, Sequence[str]], _Reading]] = READERS | {
    ".npy": _map_npy,
    ".safetensors": _map_safetensors,
}
"""The same, but the first array stays in the file where the format allows it."""
