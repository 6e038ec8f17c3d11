"""Folders of the current user: the home, the cache, and a private folder that nobody else can write.

Containers often run under a user id without a home, on a read-only disk, so each folder has fallbacks. The last one
is `lossgauge-<user id>` in the folder for temporary files. Another user may have created a folder with that name
before, so its owner and its mode are verified.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lossgauge.errors import CacheError

_NAME = "lossgauge"
_OPEN = stat.S_IWGRP | stat.S_IWOTH


def home() -> Path | None:
    """The user's home; None without a home, or if this process may not enter it."""
    try:
        folder = Path.home()
    except RuntimeError:  # HOME is not set, and the user id has no entry in the system's list
        return None
    return folder if folder.is_absolute() and os.access(folder, os.X_OK) else None


def cache_folder() -> Path:
    """LOSSGAUGE_CACHE, else ~/.cache/lossgauge, else a private temporary folder.

    The home is skipped if it does not exist, or if nothing is cached in it and it cannot be written.
    Raises CacheError if no folder can be used.
    """
    if named := os.environ.get("LOSSGAUGE_CACHE"):
        return _readable(Path(named))
    own = _in_home()
    if own is not None and (os.access(own, os.R_OK | os.X_OK) or can_be_written(own)):
        return own
    temporary = _temporary()
    if temporary is not None and (made := _made_private(temporary)):
        return made
    raise CacheError(
        "the cache needs a folder: no home folder can be written, and "
        + (
            f"{temporary} cannot be made private to this user"
            if temporary
            else "no temporary folder"
        )
        + "; name one in LOSSGAUGE_CACHE"
    )


def can_be_written(folder: Path) -> bool:
    """Whether this process may write into `folder`, or create it."""
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    return os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)


def private_folder(name: str, *, first: Iterable[Path] = ()) -> Path | None:
    """A folder that only this user can write, created if needed; None if no such folder is possible.

    It is `name` in the first of these folders that works: each of `first`, LOSSGAUGE_CACHE, ~/.cache/lossgauge, a
    temporary folder.
    """
    parents = (*first, *_caches())
    return next((made for parent in parents if (made := _made_private(parent / name))), None)


@contextmanager
def some_home() -> Iterator[None]:
    """Within the block, a private folder replaces a missing home or a missing temporary folder, for libraries that need them.

    A home that exists but cannot be written is still read; only the caches of the libraries go to the private folder.
    """
    missing = []
    own = home()
    if own is None:
        missing.append("HOME")
    elif not can_be_written(own / ".cache") and "XDG_CACHE_HOME" not in os.environ:
        missing.append("XDG_CACHE_HOME")
    if _temporary() is None:
        missing.append("TMPDIR")
    folder = private_folder("home") if missing else None
    if missing and folder is None:
        raise CacheError(
            "a library needs a home folder, and no private folder of this user can be written: "
            "name one in LOSSGAUGE_CACHE"
        )
    before = {name: os.environ.get(name) for name in missing}
    os.environ.update(dict.fromkeys(missing, str(folder)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def keep_torch_private() -> None:
    """Set a private folder for torch, before an optimizer is created.

    Otherwise torch creates `torchinductor_<user>` in the folder for temporary files, and fails if another user owns it.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = private_folder("compiled") or Path(__file__).parent
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, and nobody else may write into it."""
    if (
        os.name == "nt"
    ):  # user folders are private on Windows, and these modes have no meaning there
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _OPEN


def _caches() -> Iterator[Path]:
    if named := os.environ.get("LOSSGAUGE_CACHE"):
        yield Path(named)
    if (own := _in_home()) is not None:
        yield own
    if (temporary := _temporary()) is not None and _made_private(temporary):
        yield temporary


def _readable(folder: Path) -> Path:
    """`folder`, if it does not exist yet or can be read. Raises CacheError otherwise."""
    try:
        folder.stat()
        allowed = os.access(folder, os.R_OK | os.X_OK)
    except FileNotFoundError:
        allowed = True
    except OSError:
        allowed = False
    if not allowed:
        raise CacheError(
            f"the cache {folder} cannot be read by this user; name another in LOSSGAUGE_CACHE"
        )
    return folder


def _in_home() -> Path | None:
    folder = home()
    return folder / ".cache" / _NAME if folder is not None else None


def _temporary() -> Path | None:
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError:
        return None
    return Path(parent) / (f"{_NAME}-{os.geteuid()}" if os.name != "nt" else _NAME)


def _made_private(folder: Path) -> Path | None:
    """`folder` without links, created if needed; None if it cannot be written or is not private to the user."""
    folder = Path(os.path.realpath(folder))
    with suppress(OSError):
        there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        # checked before it is created, so that root, for example, leaves nothing in the folder of another user
        if all(_is_safe(place) for place in (there, *there.parents)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if (
                all(_is_safe(place) for place in (folder, *folder.parents))
                and is_own(folder.lstat())
                and os.access(folder, os.W_OK | os.X_OK)
            ):
                return folder
    return None


def _is_safe(folder: Path) -> bool:
    """Whether no other user can replace a folder in here: it belongs to this user or root, and others cannot write it.

    In a folder that all can write, such as /tmp, the sticky bit prevents users from renaming the files of others.
    """
    if os.name == "nt":
        return True
    status = folder.lstat()
    # the owner of / can do everything anyway; in a user namespace its id is not 0
    trusted = {0, os.geteuid(), os.lstat("/").st_uid}
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid in trusted
        and (not status.st_mode & _OPEN or bool(status.st_mode & stat.S_ISVTX))
    )
