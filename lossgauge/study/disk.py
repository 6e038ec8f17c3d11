"""Files that are there whole or not at all: written beside their place, synced, and renamed into it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lossgauge.errors import CacheError, DiskError
from lossgauge.types import Record

UNFINISHED = ".new-"
"""How names begin of what is not in its place yet: a process that is killed leaves them."""


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` whose file becomes it, if the block ends well; on the disk by then."""
    with _unfinished(target, _new_file) as temporary:
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(target)
            _sync(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it, if the block ends well; on the disk by then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(target, tempfile.mkdtemp) as folder:
        try:
            folder.chmod(0o777 & ~_umask())  # mkdtemp keeps others out; a study is to be shared
            yield folder
            for path in folder.iterdir():
                path.chmod(0o666 & ~_umask())
                _sync(path)
            _sync(folder)
            remove(target)
            folder.rename(target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of their tries to write `target`: who still writes holds a lock."""
    for left in target.parent.glob(f"{_prefix(target)}*"):
        with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            remove(left)


@contextmanager
def _unfinished(target: Path, make: Callable[..., str]) -> Iterator[Path]:
    """A new file or folder beside `target` that nobody takes for a leftover within the block."""
    while True:
        path = Path(make(prefix=_prefix(target), dir=target.parent))
        with suppress(FileNotFoundError), _locked(path, fcntl.LOCK_SH):
            if path.exists():  # else it was taken for one before the lock was there
                yield path
                return


def _new_file(*, prefix: str, dir: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix, dir=dir)
    os.close(handle)
    return name


def _prefix(target: Path) -> str:
    # not the name itself, which may be as long as names can be
    return f"{UNFINISHED}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    """Holding a lock on a file or folder; the system ends it with the process. OSError where it is refused."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """A file or a folder with all in it, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write whole or not at all. NaN is refused: what is not known is null."""
    text = json.dumps(content, indent=1, allow_nan=False)
    try:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """What `write_json` wrote. Raises CacheError where the file is damaged or missing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{path} cannot be read ({error}); the same study command writes it anew"
        ) from None


def write_rows(path: Path, rows: list[Record]) -> None:
    """Rows as Parquet: a column for each name in any row, None where a row lacks it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


def read_rows(path: Path) -> list[Record]:
    """Rows that `write_rows` wrote. Raises CacheError where the file is damaged."""
    try:
        rows: list[Record] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"{path} cannot be read: {error}") from None
    return rows


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    # to the disk itself: a power cut must not leave a name without its bytes
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
