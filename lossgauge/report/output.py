"""The report as a file: at a new name or over a regular file, and over nothing else."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from lossgauge.errors import DiskError, InputError
from lossgauge.files import atomic_file, remove_leftovers
from lossgauge.plan.claim import ClaimPlan
from lossgauge.report.page import page
from lossgauge.results.view import StudyView


def write_page(
    view: StudyView, path: Path, claims: Sequence[ClaimPlan] = (), *, full: bool = False
) -> Path:
    """`path`, which now holds the whole report, or is as it was before. The same results give the same bytes.

    `claims` are tested beside those of the paper and of the study's file; PlanError for an unknown loss or column. `full` unfolds
    all parts of the page.

    Raises InputError where `path` exists and is not a regular file, and where rows of one dataset come from different
    splits; DiskError where it cannot be written.
    """
    advice = "fix that and run `lossgauge report`, or give another path (--out)"
    return write_html(lambda: page(view, claims, full=full), path, advice=advice)


def write_html(make: Callable[[], str], path: Path, *, advice: str) -> Path:
    """`path`, which now holds the page that `make` returns, or is as it was before.

    Raises InputError where `path` exists and is not a regular file, and DiskError, with the advice, where it cannot be
    written.
    """
    try:
        _check_place(path, advice="give another path")
        html = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with atomic_file(path) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise DiskError(
            f"the report cannot be written to {path} ({error.strerror or error}); {advice}"
        ) from None
    return path


GENERATOR = b'<meta name="generator" content="lossgauge">'
"""In the head of every page."""


def check_replaceable(path: Path, *, option: str = "--out") -> None:
    """InputError where a report must not replace `path`: a file that is not a report, a link, a device.

    `option` is the one of the command line that gives the path.
    """
    advice = f"give another path ({option})"
    try:
        _check_place(path, advice=advice)
        with path.open("rb") as file:
            if GENERATOR in file.read(4096):
                return
    except OSError:
        return  # `write_page` says what is wrong
    raise InputError(f"{path} exists and is not a lossgauge report; delete it, or {advice}")


def _check_place(path: Path, *, advice: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'not a regular file')}, and a report can only replace a regular "
            f"file; {advice}"
        )


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
