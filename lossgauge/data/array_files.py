"""Arrays by name from the files that hold embeddings: .npz, .npy, .safetensors and .parquet.

An .npy holds one array and .safetensors no text: what they lack is looked for beside them, as x.labels.npy or
labels.npy beside x.npy. Nothing is unpickled.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossgauge.data.locations import reason_of, regular
from lossgauge.errors import DataError, nearest

_FLOATS = (torch.float16, torch.float32, torch.float64)
_Reading = tuple[dict[str, Any], list[str]]
"""Arrays or columns of the names asked for, and all the names that there are."""
# whatever numpy and zip raise on bytes that are no arrays
_NO_ARRAYS = (
    OSError, ValueError, EOFError, AttributeError, TypeError, NotImplementedError, RuntimeError, MemoryError,
    SyntaxError, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def read_arrays(
    path: Path, names: Sequence[str], *, needed: int, beside: Mapping[str, np.ndarray] | None = None
) -> tuple[dict[str, Any], list[Path]]:
    """What the file, or one beside it, holds of `names`, and the files that were read.

    The first of `names` are the embeddings, always an array; the others are arrays, or lists with None where
    an entry is missing. `beside` is this file's part of `labels.npy` and the like, where several files share one.
    Raises DataError for a suffix not in READERS, a file that cannot be read, and where one of the first `needed`
    names is missing.
    """
    if path.suffix not in READERS:
        raise DataError(f"{path} is of no known kind{nearest(path.suffix, READERS)}")
    found, there = READERS[path.suffix](path, names)
    files = [path]
    for name in names[1:] if path.suffix in NEED_COMPANY else ():
        file = own_company(path, name)
        if name in found:
            continue
        if file is not None:
            found[name] = load_npy(file)
            files.append(file)
        elif beside is not None:
            found |= {name: beside[name]} if name in beside else {}
        elif (shared := shared_company(path, name)) is not None:
            found[name] = load_npy(shared)
            files.append(shared)
    for name in names[:needed]:
        if name not in found:
            wanted = " and ".join(map(repr, names[:needed]))
            hint = (
                f" and no {path.stem}.{name}.npy beside it"
                if path.suffix in NEED_COMPANY
                else nearest(name, there)
            )
            raise DataError(
                f"{path} must hold the arrays {wanted}, got {sorted(there)}{hint}; other names can be given"
            )
    return found, files


def lies_beside(path: Path, names: Sequence[str]) -> bool:
    """Whether the file is company of another: x.labels.npy or labels.npy."""
    return any(path.name == f"{name}.npy" or path.name.endswith(f".{name}.npy") for name in names)


def holds(path: Path, name: str) -> bool:
    """Whether the file itself holds an array of that name. Of .npy and .safetensors, which may have company."""
    return path.suffix == ".safetensors" and name in _read_safetensors(path, ())[1]


def own_company(path: Path, name: str) -> Path | None:
    """x.labels.npy beside x.npy."""
    return _there(path.with_name(f"{path.stem}.{name}.npy"), path)


def shared_company(path: Path, name: str) -> Path | None:
    """labels.npy beside x.npy; none for kinds that hold all their arrays themselves."""
    return _there(path.with_name(f"{name}.npy"), path) if path.suffix in NEED_COMPANY else None


def _there(company: Path, path: Path) -> Path | None:
    return company if company != path and company.exists() else None


def row_count(path: Path, name: str) -> int:
    """Rows of the embeddings in an .npy or a .safetensors file, by its header; 0 where it has none of that name."""
    if path.suffix == ".npy":
        try:
            shape = np.load(regular(path), mmap_mode="r", allow_pickle=False).shape
        except _NO_ARRAYS as error:
            raise DataError(f"{path} cannot be read as .npy: {reason_of(error)}") from None
    else:
        shape = _safetensors_shape(path, name)
    return shape[0] if shape else 0


def _read_npz(path: Path, names: Sequence[str]) -> _Reading:
    try:
        # opened here, because numpy leaves a damaged archive open
        with regular(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is one array, an .npy")
            _check_once(path, arrays.files, names)
            return {name: arrays[name] for name in names if name in arrays.files}, arrays.files
    except DataError:
        raise
    except _NO_ARRAYS as error:
        raise DataError(f"{path} cannot be read as .npz: {reason_of(error)}") from None


def _check_once(path: Path, there: Sequence[str], names: Sequence[str]) -> None:
    for name in names:
        if list(there).count(name) > 1:
            raise DataError(
                f"{path} has two arrays or columns named {name!r}: rename or remove one"
            )


def _read_npy(path: Path, names: Sequence[str]) -> _Reading:
    return {names[0]: load_npy(path)}, [names[0]]


def load_npy(path: Path) -> np.ndarray:
    """The array of an .npy file. Raises DataError where it is none."""
    try:
        with regular(path).open("rb") as file:
            array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is a zip of arrays, an .npz")
        return array
    except DataError:
        raise
    except _NO_ARRAYS as error:
        raise DataError(f"{path} cannot be read as .npy: {reason_of(error)}") from None


def _read_safetensors(path: Path, names: Sequence[str]) -> _Reading:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(regular(path), framework="pt") as tensors:
            there = list(tensors.keys())
            found = {name: tensors.get_tensor(name) for name in names if name in there}
    except DataError:
        raise
    except (SafetensorError, OSError, *_NO_ARRAYS) as error:
        raise DataError(f"{path} cannot be read as .safetensors: {reason_of(error)}") from None
    # numpy knows no bfloat16 and no float8
    small = {name for name, t in found.items() if t.is_floating_point() and t.dtype not in _FLOATS}
    return {
        name: (tensor.float() if name in small else tensor).numpy()
        for name, tensor in found.items()
    }, there


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
        _check_once(path, there, names)
        table = file.read(columns=[name for name in names if name in there])
        found: dict[str, Any] = {
            name: table[name].to_pylist() for name in names[1:] if name in there
        }
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error)}") from None
    if names[0] in there:
        found[names[0]] = _list_rows(table[names[0]], path, names[0])
    return found, there


def _list_rows(column: Any, path: Path, name: str) -> np.ndarray:
    """A list column as one array, chunk by chunk: joined first, a large one would overflow its offsets."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise DataError(
            f"the column {name!r} of {path} must hold a list of floats a row, got {kind}"
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
            f"every row needs an embedding, but {path}, row {missing[0]} has none "
            f"({len(missing)} of {len(widths)} have none): leave those rows out"
        )
    if len(odd):
        raise DataError(
            f"embeddings must be of one width, but {path}, row {odd[0]} has {widths[odd[0]]} numbers "
            f"and row 0 has {widths[0]}"
        )
    # a number that is missing becomes NaN, and is refused as such
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(values).reshape(len(widths), -1)


READERS: dict[str, Callable[[Path, Sequence[str]], _Reading]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}
NEED_COMPANY = (".npy", ".safetensors")
