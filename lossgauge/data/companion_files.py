"""Files beside an array that hold its labels, ids and split: x.labels.npy, or labels.npy, beside x.npy.

An .npy file can hold only one array, and .safetensors no text, so they may have companion files. x.labels.npy belongs to x;
labels.npy belongs to the one array in its folder that has no labels of its own, or covers all arrays in its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lossgauge.data.array_files import MAPPERS, READERS, has_array, load_npy
from lossgauge.errors import DataError, nearest

MAY_HAVE_COMPANIONS = (".npy", ".safetensors")
MOST_SHOWN = 8
"""Names in one error."""


def read_arrays(
    path: Path,
    names: Sequence[str],
    *,
    needed: int,
    beside: Mapping[str, np.ndarray] | None = None,
    mapped: bool = False,
) -> tuple[dict[str, Any], list[Path]]:
    """The arrays in `names` that the file or its companions have, and the files that were read.

    The first of `names` are the embeddings, always an array; the others are arrays, or lists with None for a
    missing entry. If `mapped`, the embeddings of .npy and .safetensors files stay on disk until they are used. `beside` has this file's part of a shared `labels.npy` and the like. Raises DataError for a
    suffix not in READERS, a file that cannot be read, and where one of the first `needed` names is missing.
    """
    if path.suffix not in READERS:
        raise DataError(
            f"{path} has an unknown suffix (known: {', '.join(READERS)}, and folders of them): save the rows with "
            "numpy.savez('x.npz', embeddings=…, labels=…)"
        )
    arrays, there = (MAPPERS if mapped else READERS)[path.suffix](path, names)
    files = [path]
    for name in names[1:] if path.suffix in MAY_HAVE_COMPANIONS else ():
        if name in arrays:
            continue
        if (own := own_companion(path, name)) is not None:
            arrays[name] = load_npy(own)
            files.append(own)
        elif beside is not None:
            arrays |= {name: beside[name]} if name in beside else {}
        elif (shared := shared_companion(path, name)) is not None:
            arrays[name] = load_npy(shared)
            files.append(shared)
    for name in names[:needed]:
        if name not in arrays:
            raise _missing(path, name, names[:needed], there)
    return arrays, files


def _missing(path: Path, name: str, wanted: Sequence[str], there: Sequence[str]) -> DataError:
    """The error for a file without one of the wanted arrays: what it has, and how to name or store them."""
    what = "column" if path.suffix == ".parquet" else "array"
    if path.suffix in MAY_HAVE_COMPANIONS:
        hint = f" and no {path.stem}.{name}.npy beside it"
    else:
        hint = nearest(name, there)
        hint = hint if "did you mean" in hint else ""
    if what == "column" and name == wanted[0] and len(there) > MOST_SHOWN:
        hint += "; the embeddings must be one column with a list of numbers in each row, not one column for each number"
    option = "embeddings_name (--embeddings-name)"
    if len(wanted) > 1:
        option = "embeddings_name and labels_name (--embeddings-name, --labels-name)"
    known = [*map(repr, sorted(there)[:MOST_SHOWN])]
    more = len(there) - len(known)
    got = ", ".join(known) + (f" and {more} more" if more > 0 else "")
    return DataError(
        f"{path} must contain the {what}{'s' * (len(wanted) > 1)} {' and '.join(map(repr, wanted))}, got {got or 'none'}{hint}; "
        f"set {option} for other names"
    )


def is_companion(path: Path, names: Sequence[str]) -> bool:
    """Whether a file is a companion by its name: x.labels.npy or labels.npy."""
    return any(path.name == f"{name}.npy" or path.name.endswith(f".{name}.npy") for name in names)


def own_companion(path: Path, name: str) -> Path | None:
    """x.labels.npy beside x.npy, if it exists."""
    return _existing(path.with_name(f"{path.stem}.{name}.npy"), path)


def shared_companion(path: Path, name: str) -> Path | None:
    """labels.npy beside x.npy, if it exists; None for formats that hold all their arrays themselves."""
    if path.suffix not in MAY_HAVE_COMPANIONS:
        return None
    return _existing(path.with_name(f"{name}.npy"), path)


def has_own(path: Path, name: str) -> bool:
    """Whether a file has this array itself or in a companion of its own."""
    return own_companion(path, name) is not None or has_array(path, name)


def _existing(companion: Path, path: Path) -> Path | None:
    return companion if companion != path and companion.exists() else None
