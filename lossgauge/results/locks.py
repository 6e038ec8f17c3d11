"""Locks that show which processes use a study's folder. The system releases them when the process ends, in any way.

A lock covers a file and a folder, so it still holds if somebody deletes the file. On a file system that cannot lock
folders (NFS), only the file is locked.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lossgauge.errors import StudyError

EXCLUSIVE, SHARED = fcntl.LOCK_EX, fcntl.LOCK_SH


class Lock:
    """A lock that can be taken and released; after `opened` it is not held yet."""

    def __init__(self, file: int | None, folder: int, path: Path) -> None:
        self._file, self._folder, self._path = file, folder, path

    def take(self, kind: int, *, seconds: float) -> bool:
        """Take the lock, and return True; False if it was not free within this number of seconds.

        It is held until `release`, or until the block of `opened` ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._take(kind | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                self.release()
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.05)

    def release(self) -> None:
        """Release the lock, so that other processes can take it."""
        for handle in (self._file, self._folder):
            if handle is not None:
                with suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_UN)

    def _take(self, kind: int) -> None:
        try:
            fcntl.flock(self._folder, kind)
        except BlockingIOError:
            raise
        except OSError:
            pass  # this file system cannot lock folders: only the file is locked
        try:
            if self._file is not None:
                fcntl.flock(self._file, kind)
        except BlockingIOError:
            raise
        except OSError as error:
            raise StudyError(
                f"{self._path} cannot be locked ({error.strerror}): use a folder on a file system that supports locks"
            ) from None


@contextmanager
def opened(path: Path, folder: Path, *, create: bool = True) -> Iterator[Lock]:
    """The lock of a file and a folder. Without `create`, a missing file is not created, and only the folder is locked.

    Raises OSError if one of them cannot be opened, and StudyError if the file is a pipe or a device.
    """
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    handles = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        try:
            handles.append(os.open(path, flags | os.O_NONBLOCK, 0o666))
        except FileNotFoundError:
            if create:
                raise
        if len(handles) > 1 and not stat.S_ISREG(os.fstat(handles[1]).st_mode):
            raise StudyError(f"{path} is not a regular file: delete it, and try again")
        yield Lock(handles[1] if len(handles) > 1 else None, handles[0], path)
    finally:
        for handle in handles:
            os.close(handle)
