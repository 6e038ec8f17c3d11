"""Where a dataset is looked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lossgauge.errors import DataError
from lossgauge.user_folders import home

PARENTS = ("data", "~/data", "~/datasets", "/usr/share/datasets")


class NotFound(DataError):
    """The dataset is in none of the places; whatever else is wrong with one is another DataError."""


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
