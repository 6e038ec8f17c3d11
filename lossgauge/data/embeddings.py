"""A user's own embeddings: rows of floats with a label each, optionally with ids and sides of the split.

    .npz            arrays `embeddings`, `labels` [, `ids`, `split`, `group`]
    .parquet        a column of lists of floats, and columns with these names; other columns are ignored
    .safetensors    tensors with these names; it cannot hold text, so text is read as for .npy
    .npy            the embeddings; beside x.npy are x.labels.npy or labels.npy [, x.ids.npy, x.split.npy, x.group.npy]
    a folder        shards in one of these formats, sorted by name and joined

Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from lossgauge.batch import flattening
from lossgauge.data.embedding_shards import Shard, read_shards, side_of
from lossgauge.data.groups import group_numbers
from lossgauge.data.locations import regular
from lossgauge.data.row_checks import Rows, checked_rows
from lossgauge.data.splits import choose_split, fingerprint
from lossgauge.errors import DataError
from lossgauge.types import FeatureSet

BACKBONE = "none (given embeddings)"


class Embedded(NamedTuple):
    """Embeddings that follow every rule, with their rows and files."""

    embeddings: Float32[np.ndarray, "rows width"]
    rows: Rows
    """Ids and labels; for text labels, also their names."""
    files: list[Path]


def read(
    path: Path, *, embeddings_name: str = "embeddings", labels_name: str = "labels"
) -> Embedded:
    """Embeddings as float32 with checked rows. Raises DataError with the file or the row, and the fix."""
    shards = read_shards(path, embeddings_name, labels_name)
    for shard in shards:
        _check(shard)
    check_widths(shards)
    side_of(shards, path)
    rows = checked_rows(
        _joined(shards, "labels") or [],
        ids=_joined(shards, "ids"),
        sides=_joined(shards, "sides"),
        groups=_joined(shards, "groups"),
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
    """Embeddings used as features, without a backbone.

    `split` is `given` (by an array or column `split` of train and test), `class-disjoint` or `stratified` (half of
    each class, chosen by `seed`); if None, it is chosen as for a folder of images. With an array or column `group`, all
    rows of a group are on one side. Rows are float32 and not
    normalised. Raises DataError with the file or the row, and the fix.
    """
    embeddings, rows, files = read(path, embeddings_name=embeddings_name, labels_name=labels_name)
    train, test, protocol = choose_split(
        rows.labels,
        rows.trains,
        split=split,
        seed=seed,
        source=str(path),
        groups=rows.groups,
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
        groups=group_numbers(rows.groups),
    )


def _check(shard: Shard) -> None:
    """Rules for the shapes and types of one file's arrays."""
    path, array = shard.path, shard.embeddings
    if array.ndim != 2:
        raise DataError(
            f"embeddings must be a (rows, width) array, got shape {array.shape} in {path}: "
            "reshape it to one row per sample"
        )
    if array.dtype.kind != "f":
        raise DataError(
            f"embeddings must be floats, got {array.dtype} in {path}: store them as float32, "
            "and rescale quantised ones first"
        )
    if array.size == 0:
        raise DataError(f"{path} is empty: its embeddings have shape {array.shape}")
    _check_columns(shard)


def _check_columns(shard: Shard) -> None:
    """One entry per row in each file: else a short and a long shard could shift the rows between them."""
    rows = len(shard.embeddings)
    columns = {
        "labels": shard.labels,
        "ids": shard.ids,
        "split": shard.sides,
        "group": shard.groups,
    }
    for name, column in columns.items():
        shape = column.shape if isinstance(column, np.ndarray) else (len(column or ()),)
        if column is not None and shape != (rows,):
            raise DataError(
                f"{shard.path} holds {rows} embeddings, but {name} has shape {shape}"
                f"{flattening(shape) or ': give one entry per row'}"
            )


def _as_float32(shard: Shard) -> Float32[np.ndarray, "rows width"]:
    """The rows in float32: finite, and none all zeros."""
    with np.errstate(over="ignore"):
        # torch takes only this machine's byte order
        rows = np.ascontiguousarray(shard.embeddings, dtype=np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        what = "NaN" if np.isnan(rows[bad[0]]).any() else "Inf"
        raise DataError(
            f"embeddings must be finite in float32, but {shard.path}, row {bad[0]} holds {what} "
            f"({len(bad)} of {len(rows)} rows do): remove those rows, or compute them again"
        )
    zero = np.flatnonzero(~rows.any(axis=1))
    if len(zero):
        raise DataError(
            f"an embedding must not be zero, but {shard.path}, row {zero[0]} is all zeros "
            f"({len(zero)} of {len(rows)} rows are): remove those rows, or compute them again"
        )
    return rows


def check_widths(shards: list[Shard]) -> None:
    """DataError for shards whose rows have other widths than the first."""
    first = shards[0]
    for shard in shards[1:]:
        if shard.embeddings.shape[1:] != first.embeddings.shape[1:]:
            raise DataError(
                f"all shards must have the same width, but {shard.path} has embeddings of shape "
                f"{shard.embeddings.shape} and {first.path} of {first.embeddings.shape}"
            )


def _joined(shards: list[Shard], name: str) -> list[object] | None:
    """A column over all shards; DataError if only some have it."""
    columns = [getattr(shard, name) for shard in shards]
    lacking = [shard for shard, column in zip(shards, columns, strict=True) if column is None]
    if len(lacking) == len(shards):
        return None
    if lacking:
        column_name = {"sides": "split", "groups": "group"}.get(name, name)
        raise DataError(
            f"either all shards or no shard must have {column_name}, but {lacking[0].path} has none: add it there"
        )
    return [
        entry
        for column in columns
        for entry in (column.tolist() if isinstance(column, np.ndarray) else column)
    ]


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _where(shards: list[Shard]) -> Callable[[int], str]:
    ends = np.cumsum([np.size(shard.labels) for shard in shards])

    def where(row: int) -> str:
        place = int(np.searchsorted(ends, row, side="right"))
        return f"{shards[place].path}, row {row - (ends[place - 1] if place else 0)}"

    return where


def _digest(files: list[Path]) -> str:
    """SHA-256 of one file; of several, over their names and SHA-256."""
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
