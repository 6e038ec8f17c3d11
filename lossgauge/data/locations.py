"""Where a dataset is looked for, and which files there are data."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from lossgauge.errors import DataError
from lossgauge.user_folders import home

_SYSTEM = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "icon\r"))

PARENTS = ("data", "~/data", "~/datasets", "/usr/share/datasets")


class NotFound(DataError):
    """The dataset is in none of the places; whatever else is wrong with one is another DataError."""


class Unreachable(DataError):
    """The machine does not give a file now, whatever is in it: a disk error, a lost right, no memory left."""


def places(root: Path | None, *names: str) -> list[Path]:
    """Folders to look in: `root` alone where it is given, else the usual parents and what they hold of `names`."""
    if root is not None:
        return [root]
    parents = [folder for parent in PARENTS if (folder := _parent(parent)) is not None]
    found = [parent / name for parent in parents for name in (*names, "")]
    return [place for place in found if _is_readable(place)]


def _parent(name: str) -> Path | None:
    """None for one in the home of somebody who has none."""
    if not name.startswith("~/"):
        return Path(name)
    folder = home()
    return folder / name.removeprefix("~/") if folder is not None else None


def _is_readable(place: Path) -> bool:
    return os.access(place, os.R_OK | os.X_OK if os.path.isdir(place) else os.R_OK)


def not_found(name: str, root: Path | None, how: str) -> NotFound:
    """The error for a dataset that is in none of `places(root, …)`; `how` says how to get it."""
    where = str(root) if root is not None else f"{', '.join(PARENTS[:-1])} or {PARENTS[-1]}"
    return NotFound(f"{name} is not in {where}: {how}")


def folder_or_archive(
    name: str,
    root: Path | None,
    *,
    folder: str,
    archives: Sequence[str],
    is_whole: Callable[[Path], bool],
    how: str,
) -> Path:
    """The first place that is the set's `folder`, inside a place or itself, else that is one of its archives.

    Raises NotFound that says how to get it.
    """
    for place in places(root, name):
        for inside in (place / folder, place):
            if is_whole(inside):
                return inside
        for archive in (place, *(place / packed for packed in archives)):
            if archive.is_file():
                return archive
    raise not_found(name, root, how)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or a note of an operating system: `._1.jpg`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in _SYSTEM


def regular(path: Path) -> Path:
    """The path again, of a regular file. Raises DataError for one that is absent, a folder, a pipe or a device.

    To open a pipe would wait for its writer for ever.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is no regular file: put a plain file there")
    return path


def reason_of(error: Exception) -> str:
    """What went wrong, in one line and without the path that the system puts behind it."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__


def first_few(names: Sequence[str], few: int = 3) -> str:
    """`a.txt, b.txt, c.txt and 4 more`."""
    more = len(names) - few
    return ", ".join(names[:few]) + (f" and {more:,} more" if more > 0 else "")
