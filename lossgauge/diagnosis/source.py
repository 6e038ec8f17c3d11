"""The rows to diagnose: from files, where the embeddings stay on disk if their format allows it, or from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch, flattening
from lossgauge.data.embedded_file import is_centered
from lossgauge.data.embedding_shards import Shard, read_shards, side_of
from lossgauge.data.embeddings import check_widths
from lossgauge.data.row_checks import check_range, checked_rows
from lossgauge.diagnosis.block_reader import some_rows
from lossgauge.errors import DataError, InputError

LABELS_NAME = "labels"


class Source(NamedTuple):
    """Rows of one width in one array or several, and what is known about each."""

    name: str
    paths: tuple[str, ...]
    """The name of each array, for errors."""
    arrays: tuple[np.ndarray, ...]
    """Unchecked numbers, rows × width; some may be on disk."""
    labels: Int64[np.ndarray, " rows"] | None
    class_names: dict[int, str]
    """Names of text labels; empty for numbers."""
    ids: np.ndarray | None
    """As text, one for each row."""
    trains: Bool[np.ndarray, " rows"] | None
    notes: tuple[str, ...]
    side: str | None = None
    """What all rows are, `query` or `document`; None if the files do not say."""
    centered: bool = False
    """Whether `lossgauge embed --center` wrote a file of them: a mean is subtracted already."""

    @property
    def starts(self) -> list[int]:
        """The number of the first row of each array, and the number of all rows."""
        return [0, *np.cumsum([len(array) for array in self.arrays]).tolist()]

    @property
    def row_count(self) -> int:
        return sum(map(len, self.arrays))

    @property
    def width(self) -> int:
        return int(self.arrays[0].shape[1])

    def where(self, row: int) -> str:
        """The file and the row in it."""
        starts = self.starts
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{self.paths[part]}, row {row - starts[part]}"

    def id_of(self, row: int) -> str:
        """The id of a row; its number where the table has no ids."""
        return str(row) if self.ids is None else str(self.ids[row])

    def rows(self, numbers: Int64[np.ndarray, " some"]) -> Float[Tensor, "some width"]:
        """Some rows, as float64."""
        out = np.empty((len(numbers), self.width))
        starts = self.starts
        order = np.argsort(numbers, kind="stable")  # a disk reads ascending places faster
        part = np.searchsorted(starts, numbers[order], side="right") - 1
        for index, array in enumerate(self.arrays):
            of_part = order[part == index]
            out[of_part] = some_rows(array, numbers[of_part] - starts[index])
        return torch.from_numpy(out)


def from_files(
    path: Path,
    *,
    embeddings_name: str = "embeddings",
    labels_name: str = LABELS_NAME,
    least_rows: int = 2,
) -> Source:
    """The rows of a file or folder; see `lossgauge.data.embeddings` for the formats. Labels are not needed.

    Raises DataError for a file that cannot be read, for an array that is not (rows, width) of floats, for a column of
    another length, for labels that are missing, mixed or beyond 64 bits, and for queries and documents in one table.
    """
    shards = read_shards(
        path,
        embeddings_name,
        labels_name,
        needs_labels=labels_name != LABELS_NAME,
        mapped=True,
    )
    for shard in shards:
        _check(shard)
    check_widths(shards)
    side = side_of(shards, path)  # first: the two sides of a folder may have other columns
    where = Source(str(path), *_parts(shards), None, {}, None, None, ()).where
    given = _column(shards, "labels")
    labels: np.ndarray | None
    names: dict[int, str]
    notes: tuple[str, ...]
    if given is None:
        labels, names = None, {}
        notes = (
            f"no array or column {labels_name!r}: all that needs labels is left out; --labels-name gives another name",
        )
    else:
        labels, names, notes = _labels(given, where, str(path))
    ids, sides = _column(shards, "ids"), _column(shards, "sides")
    return _checked(
        Source(
            str(path),
            *_parts(shards),
            labels,
            names,
            None if ids is None else np.asarray(ids).astype(str),
            None if sides is None else _trains(sides, where),
            notes,
            side,
            any(is_centered(shard.path) for shard in shards),
        ),
        least_rows,
    )


def from_arrays(
    embeddings: ArrayLike, labels: ArrayLike | None = None, *, least_rows: int = 2
) -> Source:
    """The rows of arrays; labels are integers, or text as in a file.

    Raises InputError where they break a rule of `as_batch`, and DataError for text labels as for those of a file.
    """
    nothing = np.zeros(np.shape(embeddings)[:1], int)
    names: dict[int, str] = {}
    doubts: tuple[str, ...] = ()
    if labels is not None and (words := _text(labels)) is not None:
        labels, names, doubts = _labels(words, "labels, row {}".format, "labels")
    rows, numbers = as_batch(embeddings, nothing if labels is None else labels)
    array = rows.detach().cpu()
    if array.dtype == torch.bfloat16:
        array = array.float()
    notes = doubts if labels is not None else ("no labels: all that needs them is left out",)
    known = None if labels is None else numbers.cpu().numpy()
    return _checked(
        Source("embeddings", ("embeddings",), (array.numpy(),), known, names, None, None, notes),
        least_rows,
    )


def _text(labels: ArrayLike) -> np.ndarray | None:
    """Labels of which at least one is text, one for each row; None for any others, which `as_batch` checks."""
    if isinstance(labels, Tensor):
        return None
    try:
        array = np.asarray(labels)
        entries = np.asarray(labels, dtype=object)  # numpy writes 1 beside "a" as "1"
    except Exception:
        return None
    if array.ndim != 1 or array.dtype.kind not in "OUT":
        return None
    if not any(isinstance(entry, str) for entry in entries):
        return None
    if array.dtype.kind == "U" and isinstance(labels, np.ndarray):
        return array
    return np.array([str(e) if isinstance(e, str) else e for e in entries], dtype=object)


def _parts(shards: Sequence[Shard]) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
    return tuple(str(shard.path) for shard in shards), tuple(s.embeddings for s in shards)


def _check(shard: Shard) -> None:
    array = shard.embeddings
    if array.ndim != 2:
        raise DataError(
            f"embeddings must be a (rows, width) array, got shape {array.shape} in {shard.path}: "
            "reshape it to one row per sample"
        )
    if array.dtype.kind not in "fiu":
        raise DataError(
            f"embeddings must be numbers, got {array.dtype} in {shard.path}: save them with .astype('float32')"
        )


def _column(shards: Sequence[Shard], name: str) -> Any:
    """A column over all shards, as an array or a list; None if no shard has it."""
    columns = [getattr(shard, name) for shard in shards]
    column_name = {"sides": "split"}.get(name, name)
    lacking = [shard for shard, column in zip(shards, columns, strict=True) if column is None]
    if len(lacking) == len(shards):
        return None
    if lacking:
        raise DataError(
            f"either all shards or no shard must have {column_name}, but {lacking[0].path} has none: add it there"
        )
    for shard, column in zip(shards, columns, strict=True):
        shape = np.shape(column)
        if shape != (len(shard.embeddings),):
            raise DataError(
                f"{shard.path} holds {len(shard.embeddings)} embeddings, but {column_name} has shape {shape}"
                f"{flattening(shape) or ': give one entry per row'}"
            )
    # numpy would join integers of two kinds to floats, and integers and text to text
    kinds = {column.dtype.kind if isinstance(column, np.ndarray) else "" for column in columns}
    if len(kinds) == 1 and "" not in kinds:
        return columns[0] if len(columns) == 1 else np.concatenate(columns)
    return [
        entry
        for column in columns
        for entry in (column.tolist() if isinstance(column, np.ndarray) else column)
    ]


def _labels(
    given: Any, where: Any, source: str
) -> tuple[Int64[np.ndarray, " rows"], dict[int, str], tuple[str, ...]]:
    """Labels as numbers, the names of text labels, and notes. Only different texts are checked one by one."""
    if isinstance(given, np.ndarray) and given.dtype.kind in "iu":
        if given.dtype == np.uint64 and len(given):
            check_range([int(given.max())])
        return given.astype(np.int64), {}, ()
    if isinstance(given, np.ndarray) and given.dtype.kind == "U":
        words, first, number = np.unique(given, return_index=True, return_inverse=True)
    else:
        entries = given.tolist() if isinstance(given, np.ndarray) else given
        kinds = set(map(type, entries))
        if kinds == {int}:
            check_range([min(entries), max(entries)])
            return np.array(entries, dtype=np.int64), {}, ()
        words, first, number = np.array(entries, dtype=object), None, None
    if len(words) == 1:
        return np.zeros(len(given), np.int64), {0: str(words[0])}, ()
    checked = checked_rows(
        words.tolist(),
        ids=None,
        sides=None,
        where=where if first is None else lambda row: where(int(first[row])),
        source=source,
    )
    labels = checked.labels if number is None else checked.labels[number]
    names = checked.class_names
    are_numbers = all(name == str(label) for label, name in names.items())
    return labels, {} if are_numbers else names, checked.notes


def _trains(sides: Any, where: Any) -> Bool[np.ndarray, " rows"]:
    words = np.asarray(sides)
    trains = words == "train"
    odd = np.flatnonzero(~trains & (words != "test"))
    if len(odd):
        raise DataError(
            f"split must be train or test, got {str(words[odd[0]])!r} in {where(int(odd[0]))}: "
            "correct it, or remove the row or the whole column"
        )
    return np.asarray(trains, dtype=bool)


def _checked(source: Source, least_rows: int = 2) -> Source:
    """`source`, if it has that many rows; a diagnosis needs two. Raises InputError."""
    if source.row_count < least_rows or not source.width:
        needs = "a diagnosis compares rows and needs at least two"
        raise InputError(
            f"{source.name}: {needs if least_rows == 2 else 'there must be a row'}, got shape "
            f"({source.row_count}, {source.width})"
        )
    return source
