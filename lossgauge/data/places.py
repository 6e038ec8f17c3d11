"""Where a dataset is looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lossgauge.errors import DataError

PARENTS = ("data", "~/data", "~/datasets", "/usr/share/datasets")


class NotFound(DataError):
    """The dataset is in none of the places; whatever else is wrong with one is another DataError."""


def places(root: Path | None, *names: str) -> list[Path]:
    """Folders to look in: `root` alone where it is given, else the usual parents and what they hold of `names`."""
    if root is not None:
        return [root]
    parents = [Path(parent).expanduser() for parent in PARENTS]
    return [parent / name for parent in parents for name in (*names, "")]


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
