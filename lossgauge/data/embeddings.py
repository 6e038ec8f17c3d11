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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from lossgauge.data.arrays import READERS, lies_beside, read_arrays
from lossgauge.data.rows import Rows, checked_rows
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


def read_embeddings(
    path: Path, *, embeddings_name: str = "embeddings", labels_name: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and labels as they are, whatever their numbers; labels that are text come numbered.

    Raises DataError where a file cannot be read, or lacks one of the two.
    """
    shards = _shards(path, embeddings_name, labels_name)
    _check_widths(shards)
    embeddings = _stacked([shard.embeddings for shard in shards])
    labels = [np.asarray(shard.labels) for shard in shards]
    if all(array.dtype.kind in "iuf" for array in labels):
        return embeddings, _stacked(labels)
    rows = checked_rows(
        _joined(shards, "labels") or [],
        ids=None,
        sides=None,
        where=_where(shards),
        source=str(path),
    )
    return embeddings, rows.labels


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
    )


def _shards(path: Path, embeddings_name: str, labels_name: str) -> list[_Shard]:
    names = (embeddings_name, labels_name, "ids", "split")
    return [_shard(file, names) for file in _files(path, names)]


def _files(path: Path, names: tuple[str, str, str, str]) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path} cannot be read: there is no such file or folder")
    if not path.is_dir():
        return [path]
    files = [
        file
        for file in sorted(path.iterdir())
        if file.is_file()
        and not file.name.startswith(".")
        and file.suffix in READERS
        and not lies_beside(file, names[1:])
    ]
    kinds = sorted({file.suffix for file in files})
    if not files:
        raise DataError(f"{path} holds no shard; known: {', '.join(READERS)}")
    if len(kinds) > 1:
        raise DataError(
            f"the shards of {path} must be of one kind, got {' and '.join(kinds)}: name one file, or move the others"
        )
    return files


def _shard(path: Path, names: tuple[str, str, str, str]) -> _Shard:
    found, files = read_arrays(path, names, needed=2)
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
    for name, column in (("labels", shard.labels), ("ids", shard.ids), ("split", shard.sides)):
        shape = column.shape if isinstance(column, np.ndarray) else (len(column or ()),)
        if column is not None and shape != (len(array),):
            raise DataError(
                f"{path} holds {len(array)} embeddings, but {name} of shape {shape}: it takes one entry a row"
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
            f"({len(bad)} of {len(rows)} rows do): leave those rows out, or embed them anew"
        )
    zero = np.flatnonzero(~rows.any(axis=1))
    if len(zero):
        raise DataError(
            f"embeddings need a direction, but {shard.path}, row {zero[0]} is all zeros "
            f"({len(zero)} of {len(rows)} rows are): leave those rows out, or embed them anew"
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
            with path.open("rb") as file:
                contents.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if len(contents) == 1:
        return contents[0][1]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()
