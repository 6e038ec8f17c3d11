"""Where `lossgauge embed` may write: a new file, or one that it wrote before, of the same kind and side."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossgauge.data.embedded_file import HEAD, MEAN
from lossgauge.data.embedding_shards import rows_in_words
from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import DiskError, InputError
from lossgauge.user_folders import can_be_written


def check_place(
    out: Path, mark: str, *, centers: bool = False, side: str | None = None, any_side: bool = False
) -> bool:
    """Whether `out` is a file that an earlier call wrote, and that is replaced.

    Raises InputError for a name without .npz, and unless `out` is new or has embeddings of the same kind, those of a head or those of none, centered or not, and no other `side` (which is not known
    yet with `any_side`); DiskError if it cannot be written.
    """
    check_npz(out)
    if not can_be_written(out.parent):
        raise DiskError(
            f"{out.parent} is not a folder that can be written; give another file with --out"
        )
    try:
        mode = out.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise InputError(f"{out} is not a regular file; {ELSEWHERE}")
    try:
        with np.load(out, allow_pickle=False) as arrays:
            earlier = _kind(str(arrays[HEAD]), MEAN in arrays.files)
            written = str(arrays["sides"][0]) if "sides" in arrays.files else None
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(
            f"{out} exists and was not written by `lossgauge embed`; {ELSEWHERE}"
        ) from None
    new = _kind(mark, centers)
    if earlier != new:
        raise InputError(f"{out} has {earlier}, which {new} must not replace; {ELSEWHERE}")
    if written not in (None, side) and not any_side:
        raise InputError(
            f"{out} has {rows_in_words(written)}, which {rows_in_words(side)} must not replace; {ELSEWHERE}"
        )
    return True


ELSEWHERE = "delete it, or give another file with --out"


def _kind(mark: str, centers: bool = False) -> str:
    kind = "features without a head" if mark == FROZEN else "embeddings of a head"
    return f"centered {kind}" if centers else kind


def check_npz(out: Path) -> None:
    if out.suffix != ".npz":
        raise InputError(f"embeddings are written as .npz, got {out}; name a file like out.npz")


def check_qrels(out: Path, table: str) -> None:
    """InputError for a file with other judgements: it may be the user's own."""
    try:
        same = out.read_text(encoding="utf-8") == table
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        raise InputError(f"{out} exists and has other judgements than this data; {ELSEWHERE}")


def check_apart(places: Sequence[Path], means: Sequence[Path]) -> None:
    """InputError for a file to write that has a mean to subtract: its rows and its mean would be lost. Links are followed."""
    for out in places:
        for file in means:
            if out.exists() and file.exists() and out.samefile(file):
                same = "" if out == file else f", {out},"
                raise InputError(
                    f"--out must be another file than that of --center-of, got {file}{same} for both: its rows and its mean would be replaced"
                )
