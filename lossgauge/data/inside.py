"""Files that a manifest names: each must be inside the folder of the manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from lossgauge.errors import DataError


def files_inside(root: Path, paths: Sequence[object], *, where: Callable[[int], str]) -> list[Path]:
    """The file of each row, in the resolved folder `root`, no file twice.

    `where(row)` names a row in errors. Raises DataError for a path that is missing, absolute, repeated, leads out
    of `root` (also through a link), or has no regular file.
    """
    files: list[Path] = []
    first: dict[Path, int] = {}
    for row, name in enumerate(paths):
        place = where(row)
        if not isinstance(name, str) or not name:
            raise DataError(f"every row needs a path as text, got {name!r} in {place}: fill it in")
        file = _inside(root, name, place)
        if file in first:
            raise DataError(
                f"paths must be unique, but {where(first[file])} and {place} are both {file}: remove one"
            )
        first[file] = row
        files.append(file)
    return files


def _inside(root: Path, name: str, where: str) -> Path:
    if PurePosixPath(name).is_absolute():
        raise DataError(
            f"{where}: paths must be relative to {root}, got the absolute {name!r}: move the image there"
        )
    try:
        file = (root / name).resolve()  # follows links: the target must be inside
        there = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {name!r} is not a path: {error}") from None
    if not file.is_relative_to(root):
        raise DataError(
            f"{where}: {name!r} leads out of {root}, to {file}: move the image into that folder"
        )
    if not there:
        other = _in_another_form(root, name)
        if other is not None and other != root / name:
            return _inside(root, other.relative_to(root).as_posix(), where)
        if file.exists():
            raise DataError(f"{where}: {file} is not a regular file: put an image there")
        raise DataError(f"{where}: there is no file {file}; paths are relative to {root}")
    return file


def _in_another_form(root: Path, name: str) -> Path | None:
    """The file with this name in another Unicode form: `é` may be stored as a letter and an accent."""
    place = root
    for part in PurePosixPath(name).parts:
        here = place / part
        if not here.exists() and place.is_dir():
            wanted = unicodedata.normalize("NFC", part)
            alike = [e for e in place.iterdir() if unicodedata.normalize("NFC", e.name) == wanted]
            if len(alike) != 1:
                return None
            here = alike[0]
        place = here
    return place if place.is_file() else None
