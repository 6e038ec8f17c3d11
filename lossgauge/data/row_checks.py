"""The rules for rows of a user's own files: their ids, classes and sides of the split.

Manifests of images and files of embeddings follow the same rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from lossgauge.errors import DataError

SIDES = ("train", "test")
# 18 digits fit an int64; 007 and +7 are text
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")


class Rows(NamedTuple):
    """Ids, classes and sides that follow every rule."""

    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " rows"]
    class_names: dict[int, str]
    trains: Bool[np.ndarray, " rows"] | None
    """Which rows train; None if the files do not say."""
    groups: np.ndarray | None = None
    """The group of each row, as text; None if the files do not say."""
    notes: tuple[str, ...] = ()
    """One line for each doubtful thing."""


def checked_rows(
    labels: Sequence[object],
    *,
    ids: Sequence[object] | None,
    sides: Sequence[object] | None,
    groups: Sequence[object] | None = None,
    where: Callable[[int], str],
    source: str,
) -> Rows:
    """The rows, with text labels numbered in sorted order; text labels that are all whole numbers become numbers.

    `where(row)` and `source` name a row and the file in errors. Without `ids` the row number is the id. Raises
    DataError for a missing, mixed or fractional label, fewer than two classes, a missing or repeated id, a missing group,
    a side other than train and test, and two labels that are the same text in two Unicode forms. Labels that differ only in
    spaces or invisible characters stay two classes, and `notes` says so.
    """
    numbers, names = _classes(labels, where)
    if len(names) < 2:
        got = f"only {next(iter(names.values()))!r}" if names else "no rows"
        raise DataError(f"{source} must contain at least two classes, got {got}")
    return Rows(
        ids=tuple(map(str, range(len(labels)))) if ids is None else checked_ids(ids, where),
        labels=numbers,
        class_names=names,
        notes=tuple(_look_alike(names.values())),
        trains=None if sides is None else checked_sides(sides, where),
        groups=None if groups is None else checked_groups(groups, where),
    )


def check_names_once(path: Path, names: Iterable[str]) -> None:
    """DataError if a file has two columns or arrays of one name."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path} has two columns or arrays named {repeated[0]!r}: rename or remove one"
        )


def _classes(
    labels: Sequence[object], where: Callable[[int], str]
) -> tuple[Int64[np.ndarray, " rows"], dict[int, str]]:
    missing = [row for row, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise DataError(
            f"every row needs a label, but {where(missing[0])} has no label "
            f"({len(missing)} of {len(labels)} rows {'has' if len(missing) == 1 else 'have'} none): fill it in, or remove the row"
        )
    kinds = {type(label) for label in labels}
    if not kinds <= {int} and not kinds <= {str}:
        raise DataError(
            f"labels must be all whole numbers or all text, got {_kinds(kinds)}, "
            f"{labels[0]!r} in {where(0)}: convert them, {_conversion(kinds)}"
        )
    words = sorted({str(label) for label in labels})
    if kinds <= {int} or all(_NUMBER.fullmatch(word) for word in words):
        classes = sorted(map(int, words))
        check_range(classes)
        return np.array([int(str(label)) for label in labels], dtype=np.int64), {
            label: str(label) for label in classes
        }
    _check_text(words, "a label")
    _check_forms(words)
    number = {word: index for index, word in enumerate(words)}
    return np.array([number[str(label)] for label in labels], dtype=np.int64), dict(
        enumerate(words)
    )


def _conversion(kinds: set[type]) -> str:
    return (
        "as with labels.astype(int)"
        if kinds <= {float, int, bool}
        else "as with labels.astype(str)"
    )


def check_range(labels: Sequence[int]) -> None:
    """DataError for a whole number that does not fit int64: it would change."""
    for label in (min(labels, default=0), max(labels, default=0)):
        if not -(2**63) <= label < 2**63:
            raise DataError(
                f"labels must be between -2^63 and 2^63 - 1, got {label}: number the classes from 0"
            )


def _check_forms(words: Sequence[str]) -> None:
    """DataError for two labels that are the same text in two Unicode forms: they look the same."""
    first: dict[str, str] = {}
    for word in words:
        other = first.setdefault(unicodedata.normalize("NFC", word), word)
        if other != word:
            raise DataError(
                f"two labels must not be the same text in two Unicode forms, got {word!r} as {other!a} and as "
                f"{word!a}: write both in the form NFC"
            )


def _look_alike(words: Iterable[str]) -> Iterator[str]:
    """One line for each label that differs from another only in spaces or invisible characters."""
    first: dict[str, str] = {}
    for word in words:
        seen = "".join(
            c for c in word if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace()
        )
        other = first.setdefault(" ".join(seen.split()), word)
        if other != word:
            yield (
                f"the labels {other!a} and {word!a} differ only in spaces or invisible characters and count as "
                "two classes: rename one if they should be one"
            )


def checked_ids(ids: Sequence[object], where: Callable[[int], str]) -> tuple[str, ...]:
    """The ids as text. Raises DataError for a missing or repeated one."""
    first: dict[str, int] = {}
    for row, entry in enumerate(ids):
        if _is_missing(entry) or not isinstance(entry, str | int):
            raise DataError(
                f"every row needs an id, as text or a whole number, got {entry!r} in {where(row)}"
            )
        name = str(entry)
        if name in first:
            raise DataError(
                f"ids must be unique, but {where(first[name])} and {where(row)} are both {name!r}: "
                "rename one, or remove it"
            )
        first[name] = row
    _check_text(first, "an id")
    return tuple(first)


def checked_sides(
    sides: Sequence[object], where: Callable[[int], str]
) -> Bool[np.ndarray, " rows"]:
    """Which rows train. Raises DataError for a side other than train and test."""
    for row, side in enumerate(sides):
        if side not in SIDES:
            raise DataError(
                f"split must be train or test, got {side!r} in {where(row)}: "
                "correct it, or remove the row or the whole column"
            )
    return np.array([side == "train" for side in sides], dtype=bool)


def checked_groups(groups: Sequence[object], where: Callable[[int], str]) -> np.ndarray:
    """The group of each row, as text. Raises DataError for a missing group."""
    for row, group in enumerate(groups):
        if _is_missing(group) or not isinstance(group, str | int):
            raise DataError(
                f"every row needs a group, as text or a whole number, got {group!r} in {where(row)}: "
                "fill it in, or remove the column group"
            )
    return np.array([str(group) for group in groups])


def _is_missing(entry: object) -> bool:
    return (
        entry is None or entry == "" or entry != entry
    )  # NaN, which pandas uses for a missing entry


def _check_text(words: Sequence[str] | dict[str, int], what: str) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise DataError(f"{what} must be valid UTF-8, got {word!r}: rename it") from None


def _kinds(kinds: set[type]) -> str:
    return " and ".join(sorted(kind.__name__ for kind in kinds))
