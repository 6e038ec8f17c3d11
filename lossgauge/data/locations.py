"""Where datasets are searched for, and which files there count as data."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from lossgauge.data.dataset import Dataset
from lossgauge.errors import DataError
from lossgauge.user_folders import home

_SYSTEM = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "icon\r"))

PARENTS = ("data", "~/data", "~/datasets", "/usr/share/datasets")


class NotFound(DataError):
    """The dataset is in none of the places. A damaged one is another DataError."""


class Unreachable(DataError):
    """A file cannot be read now, for a reason other than its content: a disk error, no permission, no memory."""


def places(root: Path | None, *names: str) -> list[Path]:
    """Where to search: only `root` if given, else `names` in the usual folders, and these folders themselves."""
    if root is not None:
        return [root]
    parents = [folder for parent in PARENTS if (folder := _parent(parent)) is not None]
    candidates = [parent / name for parent in parents for name in (*names, "")]
    return [place for place in candidates if _is_readable(place)]


def _parent(name: str) -> Path | None:
    """The folder; None if it is in the home, and the user has no home."""
    if not name.startswith("~/"):
        return Path(name)
    folder = home()
    return folder / name.removeprefix("~/") if folder is not None else None


def _is_readable(place: Path) -> bool:
    return os.access(place, os.R_OK | os.X_OK if os.path.isdir(place) else os.R_OK)


def not_found(dataset: Dataset, root: Path | None) -> NotFound:
    """The error for a dataset that is in none of `places(root, …)`, with how to get it."""
    where = str(root) if root is not None else f"{', '.join(PARENTS[:-1])} or {PARENTS[-1]}"
    return NotFound(f"{dataset.name} is not in {where}: {dataset.how_to_get}")


def folder_or_archive(
    dataset: Dataset,
    root: Path | None,
    *,
    folder: str,
    archives: Sequence[str],
    is_complete: Callable[[Path], bool],
) -> Path:
    """The dataset's folder or archive, in the first place that has one; `folder` may be a place itself or in it.

    Raises NotFound, with how to get the dataset.
    """
    for place in places(root, dataset.name):
        for inside in (place / folder, place):
            if is_complete(inside):
                return inside
        for archive in (place, *(place / packed for packed in archives)):
            if archive.is_file():
                return archive
    raise not_found(dataset, root)


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name is hidden or written by an operating system: `._1.jpg`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in _SYSTEM


def regular(path: Path) -> Path:
    """The same path, if it is a regular file. Raises DataError if it is missing, a folder, a pipe or a device.

    Opening a pipe would wait for a writer, possibly without end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is not a regular file: put a plain file there")
    return path


def reason_of(error: Exception) -> str:
    """What went wrong, in one line and without the path that the system appends."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__


def not_utf_8(path: Path) -> str:
    """`x.csv, line 3, is not UTF-8`: for a file that could not be decoded; the first such line."""
    with path.open("rb") as file:
        number = next((at for at, line in enumerate(file, 1) if not _is_utf_8(line)), 1)
    return f"{path}, line {number}, is not UTF-8: save the file in UTF-8"


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def first_few(names: Sequence[str], few: int = 3) -> str:
    """`a.txt, b.txt, c.txt and 4 more`."""
    more = len(names) - few
    return ", ".join(names[:few]) + (f" and {more:,} more" if more > 0 else "")
