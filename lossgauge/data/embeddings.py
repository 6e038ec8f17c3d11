"""Ready embeddings of one's own: rows of floats with a label each, and an id and a side of the split if there are.

    .npz            arrays `embeddings`, `labels` [, `ids`, `split`]
    .parquet        a column of lists of floats, and columns of those names; other columns are left alone
    .safetensors    tensors of those names; it holds no text, so see the next line for that
    .npy            the embeddings; beside x.npy lie x.labels.npy, or labels.npy [, x.ids.npy, x.split.npy]
    a folder        shards of any one of these, sorted by name and put one after the other

Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from lossgauge.data.array_files import (
    NEED_COMPANY,
    READERS,
    holds,
    lies_beside,
    load_npy,
    own_company,
    read_arrays,
    row_count,
    shared_company,
)
from lossgauge.data.locations import is_hidden, reason_of, regular
from lossgauge.data.row_checks import Rows, check_range, checked_rows
from lossgauge.data.splits import choose_split, fingerprint
from lossgauge.errors import DataError
from lossgauge.types import FeatureSet

BACKBONE = "none (given embeddings)"


class _Shard(NamedTuple):
    """One file, as it is."""

    path: Path
    embeddings: np.ndarray
    labels: Any
    ids: Any | None
    sides: Any | None
    files: list[Path]
    """All that was read: the file, and what lies beside it."""


class Embedded(NamedTuple):
    """Embeddings that passed every rule, with their rows and where they came from."""

    embeddings: Float32[np.ndarray, "rows width"]
    rows: Rows
    """Ids, labels and, for labels that are text, their names."""
    files: list[Path]


class Given(NamedTuple):
    """Embeddings with their labels, as a file holds them."""

    embeddings: np.ndarray
    labels: np.ndarray
    class_names: dict[int, str]
    """Of labels that are text; empty for numbers."""
    notes: tuple[str, ...]
    """What is doubtful, a line each."""


def read_embeddings(
    path: Path, *, embeddings_name: str = "embeddings", labels_name: str = "labels"
) -> Given:
    """Embeddings and labels as they are, whatever their numbers; labels that are text come numbered.

    Raises DataError where a file cannot be read, or lacks one of the two, and for whole numbers beyond 64 bits.
    """
    shards = _shards(path, embeddings_name, labels_name)
    for shard in shards:
        if shard.embeddings.ndim == 0 or shard.embeddings.dtype.kind not in "iufb":
            raise DataError(
                f"embeddings must be a (rows, width) array of numbers, got shape {shard.embeddings.shape} of "
                f"{shard.embeddings.dtype} in {shard.path}"
            )
        _check_columns(shard)
    _check_widths(shards)
    embeddings = _native(_stacked([shard.embeddings for shard in shards]))
    labels = _joined(shards, "labels") or []
    numbers = [label for label in labels if type(label) is int]
    if len(numbers) == len(labels):
        check_range(numbers)
        return Given(embeddings, np.array(numbers, dtype=np.int64), {}, ())
    rows = checked_rows(
        labels,
        ids=None,
        sides=None,
        where=_where(shards),
        source=str(path),
    )
    return Given(embeddings, rows.labels, rows.class_names, rows.notes)


def _native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order, which is the one that torch takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read(
    path: Path, *, embeddings_name: str = "embeddings", labels_name: str = "labels"
) -> Embedded:
    """Embeddings as float32 with checked rows. Raises DataError that names the file or the row, and the fix."""
    shards = _shards(path, embeddings_name, labels_name)
    for shard in shards:
        _check(shard)
    _check_widths(shards)
    rows = checked_rows(
        _joined(shards, "labels") or [],
        ids=_joined(shards, "ids"),
        sides=_joined(shards, "sides"),
        where=_where(shards),
        source=str(path),
    )
    embeddings = _stacked([_as_float32(shard) for shard in shards])
    return Embedded(embeddings, rows, [file for shard in shards for file in shard.files])


def load(
    path: Path,
    *,
    embeddings_name: str = "embeddings",
    labels_name: str = "labels",
    split: str | None = None,
    seed: int = 0,
) -> FeatureSet:
    """Ready embeddings in the place of a backbone's features.

    `split` is `given` (by an array or column `split` of train and test), `class-disjoint` or `stratified`
    (half of each class, picked by `seed`); unnamed, it is chosen as for a folder of images. Rows are float32
    and as given: not normalised. Raises DataError that names the file or the row, and the fix.
    """
    embeddings, rows, files = read(path, embeddings_name=embeddings_name, labels_name=labels_name)
    train, test, protocol = choose_split(
        rows.labels, rows.trains, split=split, seed=seed, source=str(path)
    )
    dataset = f"embeddings:{path.name or path.resolve().name}"
    return FeatureSet(
        dataset=dataset,
        backbone=BACKBONE,
        features=torch.from_numpy(embeddings),
        labels=torch.from_numpy(rows.labels),
        train=torch.from_numpy(train),
        test=torch.from_numpy(test),
        protocol=protocol,
        fingerprint=fingerprint(rows.ids, rows.labels, train, test),
        identity={
            "dataset": dataset,
            "backbone": BACKBONE,
            "embeddings": _digest(files),
            "names": f"{embeddings_name}, {labels_name}",
        },
        class_names=rows.class_names,
        notes=rows.notes,
    )


def _shards(path: Path, embeddings_name: str, labels_name: str) -> list[_Shard]:
    names = (embeddings_name, labels_name, "ids", "split")
    paths = _files(path, names)
    if not path.is_dir():
        _check_shared(path, names)
    if len(paths) == 1:
        shards = [_shard(paths[0], names, None)]
    else:
        parts, shared = _parts(paths, names)
        shards = [_shard(file, names, part) for file, part in zip(paths, parts, strict=True)]
        shards[0].files.extend(shared)
    if path.is_dir():
        _check_all_read(path, names, shards)
    return shards


def _check_shared(path: Path, names: tuple[str, ...]) -> None:
    """DataError where `labels.npy` and the like beside the one file that was named belong to none, or to which is open."""
    for name in names[1:]:
        file = shared_company(path, name)
        if file is None:
            continue
        other = _without(path, names, name)
        if other is None and _has_own(path, name):
            raise _of_no_array(file)
        if other is not None and not _has_own(path, name):
            raise DataError(
                f"{file} must belong to one array, but {other.name} beside {path.name} has no {name} of its own either: "
                f"if the file is of {path.name}, rename it to {path.stem}.{name}.npy"
            )


def _without(path: Path, names: tuple[str, ...], name: str) -> Path | None:
    """Another array beside the file that has no `name` of its own."""
    for other in _entries(path.parent):
        if (
            other.stem != path.stem
            and other.suffix in NEED_COMPANY
            and _is_data(other, names)
            and other.is_file()
            and (other.suffix == ".npy" or holds(other, names[0]))
            and not _has_own(other, name)
        ):
            return other
    return None


def _has_own(path: Path, name: str) -> bool:
    return own_company(path, name) is not None or holds(path, name)


def _check_all_read(folder: Path, names: tuple[str, ...], shards: list[_Shard]) -> None:
    """DataError where `labels.npy`, `x.labels.npy` and the like lie in a folder and belong to no array there."""
    read = {file for shard in shards for file in shard.files}
    for file in _entries(folder):
        if file not in read and lies_beside(file, names[1:]) and not is_hidden(file.name):
            raise _of_no_array(file)


def _of_no_array(file: Path) -> DataError:
    name = file.stem.rpartition(".")[2]
    return DataError(
        f"{file} must belong to an array beside it (.npy or .safetensors) that has no {name} of its own, and there "
        "is none: remove the file, or rename it"
    )


def _parts(
    paths: list[Path], names: tuple[str, ...]
) -> tuple[list[dict[str, np.ndarray]], list[Path]]:
    """Each shard's rows of `labels.npy` and the like, which belong to one shard or cover all; and these files.

    Raises DataError where neither is so, or where the order of the shards is not plain.
    """
    parts: list[dict[str, np.ndarray]] = [{} for _ in paths]
    files = []
    for name in names[1:]:
        file = shared_company(paths[0], name)
        without = [n for n, p in enumerate(paths) if not _has_own(p, name)]
        if file is None or not without:
            continue
        array = load_npy(file)
        files.append(file)
        if len(without) == 1:
            parts[without[0]][name] = array
            continue
        counts = [row_count(path, names[0]) for path in paths]
        if len(without) < len(paths) or array.ndim != 1 or len(array) != sum(counts):
            raise DataError(
                f"{file} must belong to one array, or hold one row for each of the {sum(counts):,} rows of all "
                f"{len(paths)} arrays beside it, got shape {array.shape}: give each array a file of its own, as "
                f"{paths[without[0]].stem}.{name}.npy"
            )
        if paths != sorted(paths, key=_by_number):
            raise DataError(
                f"{file} covers {len(paths)} arrays, whose order by name ({paths[0].name}, {paths[1].name}, …) is "
                "not that of their numbers: pad the numbers with zeros, or give each array a file of its own, as "
                f"{paths[0].stem}.{name}.npy"
            )
        ends = np.cumsum(counts)
        for part, rows in zip(parts, np.split(array, ends[:-1]), strict=True):
            part[name] = rows
    return parts, files


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Orders img_2 before img_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", path.name)
    ]


def _files(path: Path, names: tuple[str, ...]) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path} cannot be read: there is no such file or folder")
    if not path.is_dir():
        return [regular(path)]
    files = [file for file in _entries(path) if _is_data(file, names)]
    kinds = sorted({file.suffix for file in files})
    if not files:
        raise DataError(f"{path} holds no shard; known: {', '.join(READERS)}")
    if len(kinds) > 1:
        raise DataError(
            f"the shards of {path} must be of one kind, got {' and '.join(kinds)}: name one file, or move the others"
        )
    return files


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {reason_of(error)}") from None


def _is_data(file: Path, names: tuple[str, ...]) -> bool:
    """Whether a file of a folder is one of its arrays."""
    return (
        file.suffix in READERS
        and not is_hidden(file.name)
        and not lies_beside(file, names[1:])
        and not file.is_dir()
    )


def _shard(
    path: Path, names: tuple[str, str, str, str], beside: dict[str, np.ndarray] | None
) -> _Shard:
    found, files = read_arrays(path, names, needed=2, beside=beside)
    embeddings, labels, ids, sides = (found.get(name) for name in names)
    return _Shard(path, np.asarray(embeddings), labels, ids, sides, files)


def _check(shard: _Shard) -> None:
    """Rules for one file's arrays, before their numbers are looked at."""
    path, array = shard.path, shard.embeddings
    if array.ndim != 2:
        raise DataError(
            f"embeddings must be a (rows, width) array, got shape {array.shape} in {path}: "
            "reshape it, a row a sample"
        )
    if array.dtype.kind != "f":
        raise DataError(
            f"embeddings must be floats, got {array.dtype} in {path}: store them as float32, "
            "and if they are quantised, scale them back first"
        )
    if array.size == 0:
        raise DataError(f"{path} is empty: its embeddings have shape {array.shape}")
    _check_columns(shard)


def _check_columns(shard: _Shard) -> None:
    """One entry a row, in each file: shards that are short and long by as much would else shift each other's rows."""
    rows = len(shard.embeddings)
    for name, column in (("labels", shard.labels), ("ids", shard.ids), ("split", shard.sides)):
        shape = column.shape if isinstance(column, np.ndarray) else (len(column or ()),)
        if column is not None and shape != (rows,):
            raise DataError(
                f"{shard.path} holds {rows} embeddings, but {name} of shape {shape}: it takes one entry a row"
            )


def _as_float32(shard: _Shard) -> Float32[np.ndarray, "rows width"]:
    """The rows in float32, each finite there and with a direction."""
    with np.errstate(over="ignore"):
        # torch takes no foreign byte order
        rows = np.ascontiguousarray(shard.embeddings, dtype=np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        what = "NaN" if np.isnan(rows[bad[0]]).any() else "Inf"
        raise DataError(
            f"embeddings must be finite in float32, but {shard.path}, row {bad[0]} holds {what} "
            f"({len(bad)} of {len(rows)} rows do): leave those rows out, or embed them again"
        )
    zero = np.flatnonzero(~rows.any(axis=1))
    if len(zero):
        raise DataError(
            f"embeddings need a direction, but {shard.path}, row {zero[0]} is all zeros "
            f"({len(zero)} of {len(rows)} rows are): leave those rows out, or embed them again"
        )
    return rows


def _check_widths(shards: list[_Shard]) -> None:
    first = shards[0]
    for shard in shards[1:]:
        if shard.embeddings.shape[1:] != first.embeddings.shape[1:]:
            raise DataError(
                f"shards must be of one width, but {shard.path} holds embeddings of shape "
                f"{shard.embeddings.shape} and {first.path} of {first.embeddings.shape}"
            )


def _joined(shards: list[_Shard], name: str) -> list[object] | None:
    """A column over all shards; DataError where some have it and some have not."""
    columns = [getattr(shard, name) for shard in shards]
    lacking = [shard for shard, column in zip(shards, columns, strict=True) if column is None]
    if len(lacking) == len(shards):
        return None
    if lacking:
        column_name = "split" if name == "sides" else name
        raise DataError(
            f"all shards must have {column_name}, or none, but {lacking[0].path} lacks it: add it there"
        )
    return [
        entry
        for column in columns
        for entry in (column.tolist() if isinstance(column, np.ndarray) else column)
    ]


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _where(shards: list[_Shard]) -> Callable[[int], str]:
    ends = np.cumsum([np.size(shard.labels) for shard in shards])

    def where(row: int) -> str:
        place = int(np.searchsorted(ends, row, side="right"))
        return f"{shards[place].path}, row {row - (ends[place - 1] if place else 0)}"

    return where


def _digest(files: list[Path]) -> str:
    """SHA-256 of the file, or of all their names and SHA-256 where there are several."""
    contents = []
    for path in files:
        try:
            with regular(path).open("rb") as file:
                contents.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if len(contents) == 1:
        return contents[0][1]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()
