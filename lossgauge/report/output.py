"""The report where the user wants it: over a regular file or at a new name, and over nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

from lossgauge.errors import DiskError, InputError
from lossgauge.files import atomic_file, remove_leftovers
from lossgauge.report.page import page
from lossgauge.types import Results


def write_page(results: Results, path: Path) -> Path:
    """`path`, now holding the report: whole or not at all. The same results give the same bytes.

    Raises InputError where `path` is a link, a device or anything else but a regular file, and where rows of one
    dataset come from different splits; DiskError where it cannot be written.
    """
    try:
        _check_place(path)
        html = page(results)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with atomic_file(path) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise DiskError(
            f"the report cannot be written to {path}: {error.strerror or error}; `lossgauge report` writes it "
            "once that is put right, or elsewhere with --out"
        ) from None
    return path


GENERATOR = b'<meta name="generator" content="lossgauge">'
"""In the head of every page."""


def check_replaceable(path: Path) -> None:
    """InputError where `path` is no place for a report, or a file that is none: a study's record, one of the user's."""
    try:
        _check_place(path)
        with path.open("rb") as file:
            if GENERATOR in file.read(4096):
                return
    except OSError:
        return  # `write_page` says what is wrong with the place
    raise InputError(
        f"{path} is a file that is no report of lossgauge: delete it first, or give another name with --out"
    )


def _check_place(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}: a report is written to a new name or "
            "over a regular file; give one with --out"
        )


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
