"""The files that a user's embeddings are in: one file or a folder of them, with their companion files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lossgauge.data.array_files import READERS, has_array, load_npy, row_count
from lossgauge.data.companion_files import (
    MAY_HAVE_COMPANIONS,
    has_own,
    is_companion,
    read_arrays,
    shared_companion,
)
from lossgauge.data.locations import is_hidden, reason_of, regular
from lossgauge.errors import DataError

QUERY, DOCUMENT = SIDES = ("query", "document")
"""What a row is, where some are searched for among others."""
PLURALS = {QUERY: "queries", DOCUMENT: "documents"}


def rows_in_words(side: str | None) -> str:
    """What the rows of a side are called; None if it is not known."""
    return "rows of no known side" if side is None else PLURALS.get(side, side)


def file_of_side(path: Path, side: str) -> Path:
    """X-queries.npz for X.npz: where `lossgauge embed` writes one side of both."""
    return path.with_name(f"{path.stem}-{PLURALS[side]}.npz")


class Shard(NamedTuple):
    """The arrays of one file, unchecked."""

    path: Path
    embeddings: np.ndarray
    labels: Any
    ids: Any | None
    sides: Any | None
    groups: Any | None
    roles: Any | None
    """The array `sides`: what each row is, `query` or `document`."""
    files: list[Path]
    """All files that were read: this one and its companions."""


def read_shards(
    path: Path,
    embeddings_name: str,
    labels_name: str,
    *,
    needs_labels: bool = True,
    mapped: bool = False,
) -> list[Shard]:
    """The arrays of a file, or of all files of a folder in the order of their names.

    If `mapped`, the embeddings of .npy and .safetensors files stay on disk until they are used. Raises DataError for a file that cannot be read or lacks embeddings or labels, and for a companion file that may
    belong to another array.
    """
    names = (embeddings_name, labels_name, "ids", "split", "group", "sides")
    paths = _files(path, names)
    if not path.is_dir():
        _check_shared(path, names)
    needed = 2 if needs_labels else 1
    if len(paths) == 1:
        shards = [_shard(paths[0], names, None, needed, mapped)]
    else:
        parts, shared = _parts(paths, names)
        shards = [
            _shard(file, names, part, needed, mapped)
            for file, part in zip(paths, parts, strict=True)
        ]
        shards[0].files.extend(shared)
    if path.is_dir():
        _check_all_read(path, names, shards)
    return shards


def _check_shared(path: Path, names: tuple[str, ...]) -> None:
    """DataError if a shared `labels.npy` and the like beside this one file is needed by no array, or by several."""
    for name in names[1:]:
        file = shared_companion(path, name)
        if file is None:
            continue
        other = _without(path, names, name)
        if other is None and has_own(path, name):
            raise _of_no_array(file)
        if other is not None and not has_own(path, name):
            raise DataError(
                f"{file} must belong to one array, but {other.name}, in the same folder as {path.name}, also has no {name} of its own: "
                f"if it belongs to {path.name}, rename it to {path.stem}.{name}.npy"
            )


def _without(path: Path, names: tuple[str, ...], name: str) -> Path | None:
    """Another array beside this one that has no `name` of its own; None if all have one."""
    for other in _entries(path.parent):
        if (
            other.stem != path.stem
            and other.suffix in MAY_HAVE_COMPANIONS
            and _is_data(other, names)
            and other.is_file()
            and (other.suffix == ".npy" or has_array(other, names[0]))
            and not has_own(other, name)
        ):
            return other
    return None


def _check_all_read(folder: Path, names: tuple[str, ...], shards: list[Shard]) -> None:
    """DataError if a folder has a `labels.npy`, `x.labels.npy` or the like that no array there needs."""
    read = {file for shard in shards for file in shard.files}
    for file in _entries(folder):
        if file not in read and is_companion(file, names[1:]) and not is_hidden(file.name):
            raise _of_no_array(file)


def _of_no_array(file: Path) -> DataError:
    name = file.stem.rpartition(".")[2]
    return DataError(
        f"{file} must belong to an array beside it (.npy or .safetensors) that has no {name} of its own, but no "
        "such array exists: remove the file, or rename it"
    )


def _parts(
    paths: list[Path], names: tuple[str, ...]
) -> tuple[list[dict[str, np.ndarray]], list[Path]]:
    """Each shard's rows of the shared `labels.npy` and the like, and these files.

    Such a file belongs to one shard or covers all. Raises DataError if neither holds, or if the order of the shards
    is ambiguous.
    """
    parts: list[dict[str, np.ndarray]] = [{} for _ in paths]
    files = []
    for name in names[1:]:
        file = shared_companion(paths[0], name)
        without = [n for n, p in enumerate(paths) if not has_own(p, name)]
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
                f"{file} must belong to one array, or have one row for each of the {sum(counts):,} rows of all "
                f"{len(paths)} arrays in its folder, got shape {array.shape}: give each array its own file, as "
                f"{paths[without[0]].stem}.{name}.npy"
            )
        if paths != sorted(paths, key=_by_number):
            raise DataError(
                f"{file} covers {len(paths)} arrays, but their order by name ({paths[0].name}, {paths[1].name}, …) "
                "differs from the order of their numbers: pad the numbers with zeros, or give each array its own file, as "
                f"{paths[0].stem}.{name}.npy"
            )
        ends = np.cumsum(counts)
        for part, rows in zip(parts, np.split(array, ends[:-1]), strict=True):
            part[name] = rows
    return parts, files


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts img_2 before img_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]+)", path.name)
    ]


def _files(path: Path, names: tuple[str, ...]) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path} cannot be read: no such file or folder")
    if not path.is_dir():
        return [regular(path)]
    files = [file for file in _entries(path) if _is_data(file, names)]
    kinds = sorted({file.suffix for file in files})
    if not files:
        raise DataError(f"{path} contains no embeddings file; known suffixes: {', '.join(READERS)}")
    if len(kinds) > 1:
        raise DataError(
            f"all files of {path} must have the same suffix, got {' and '.join(kinds)}: give one file, or move the others"
        )
    return files


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {reason_of(error)}") from None


def _is_data(file: Path, names: tuple[str, ...]) -> bool:
    """Whether a file holds embeddings, and is not a companion or hidden."""
    return (
        file.suffix in READERS
        and not is_hidden(file.name)
        and not is_companion(file, names[1:])
        and not file.is_dir()
    )


def _shard(
    path: Path,
    names: tuple[str, ...],
    beside: dict[str, np.ndarray] | None,
    needed: int,
    mapped: bool,
) -> Shard:
    arrays, files = read_arrays(path, names, needed=needed, beside=beside, mapped=mapped)
    embeddings, labels, ids, sides, groups, roles = (arrays.get(name) for name in names)
    return Shard(path, np.asanyarray(embeddings), labels, ids, sides, groups, roles, files)


def side_of(shards: list[Shard], source: Path) -> str | None:
    """What all rows are, `query` or `document`, as the arrays `sides` say; None if they do not say it of every row.

    Raises DataError if some rows are queries and others documents: they are not to be compared with each other as rows of one table.
    """
    found: dict[str, str] = {}
    for shard in shards:
        words = np.asarray(shard.roles) if shard.roles is not None else np.empty(0)
        if words.dtype.kind not in "UO" or words.shape != (len(shard.embeddings),):
            return None
        for word in np.unique(words.astype(str)).tolist():
            row = int(np.flatnonzero(words == word)[0])
            found.setdefault(word, f"{shard.path}, row {row}")
    if not found.keys() <= set(SIDES):
        return None
    if len(found) == 2:
        raise DataError(
            f"a table must have one side, but {found[QUERY]}, is a query and {found[DOCUMENT]}, a document (the array sides of {source}): "
            "write each side to a file of its own, as `lossgauge embed pairs:PATH` does, and give both, as in `lossgauge diagnose "
            "QUERIES --corpus DOCUMENTS`"
        )
    return next(iter(found), None)
