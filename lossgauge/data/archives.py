"""Unpacks archives into the cache; the content of an archive is never trusted.

    <cache>/unpacked/<archive>-<hash of its path, size and time>/

Only plain files and folders are unpacked, each one once and below the target folder, and no more than `Limits` allow.
Hidden files and system files (`__MACOSX`, `._1.jpg`) are not unpacked.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple, Protocol, cast, runtime_checkable

from lossgauge.data.cache import default_cache
from lossgauge.data.locations import NotFound, is_hidden
from lossgauge.errors import DataError

_CHUNK = 2**20
_DAMAGE = (
    OSError, EOFError, ValueError, NotImplementedError, RuntimeError,
    zlib.error, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip


class Limits(NamedTuple):
    """Limits for the content of an archive."""

    entries: int = 200_000
    bytes: int = 16 * 2**30
    ratio: int = 100
    """The most unpacked bytes for each byte of the archive."""
    free_bytes: int = 64 * 2**20
    """This many bytes are allowed at any ratio, because text tables compress well."""


LIMITS = Limits()


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def unpack(archive: Path, *, md5: str | None = None) -> Path:
    """The folder in the cache with the content of the archive; it is unpacked at the first use.

    Raises DataError if the archive is damaged or hostile, or does not have the given MD5.
    """
    size, changed = archive.stat().st_size, archive.stat().st_mtime_ns
    key = hashlib.sha256(f"{archive.resolve()}\n{size}\n{changed}".encode()).hexdigest()[:16]
    folder = default_cache() / "unpacked" / f"{archive.name}-{key}"
    if not folder.is_dir():
        if md5 is not None:
            _check_md5(archive, md5)
        extract(archive, folder)
    return folder


def find_within(archive: Path, find: Callable[[Path], Path], *, md5: str | None = None) -> Path:
    """The result of `find` for the folder with the content of an archive. Raises DataError if it finds nothing."""
    folder = unpack(archive, md5=md5)
    try:
        location = find(folder)
    except NotFound as error:
        raise DataError(f"{archive} is unpacked, but {error}") from None
    if location.is_file():
        raise DataError(
            f"{archive} contains another archive, {location.name}: extract that one first"
        )
    return location


def extract(archive: Path, into: Path, limits: Limits = LIMITS) -> None:
    """Unpack a .zip, .tar or .tar.gz into the new folder `into`, atomically.

    Raises DataError, which names the archive and the entry, for an absolute path or a path with `..`, a link or a
    device, a repeated name, too many entries, too many bytes, and damage.
    """
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=into.parent))
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked into {into.parent}: {error}") from None
    meter = _Meter(archive, limits)
    try:
        entries = _zip_entries if zipfile.is_zipfile(archive) else _tar_entries
        for name, content in entries(archive, meter):
            _write(draft, archive, name, content)
        # if another process was faster, its folder is used
        if not into.is_dir():
            draft.rename(into)
    except _DAMAGE as error:
        if not into.is_dir():
            raise DataError(
                f"{archive} cannot be unpacked ({error}; last entry: {meter.entry or 'none'})"
            ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class _Meter:
    """Counts the entries and bytes that are unpacked, and raises DataError if they exceed the limits."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self.archive = archive
        self.entry = ""
        self._entries = 0
        self._most_entries = limits.entries
        self._bytes = 0
        packed = archive.stat().st_size
        self._most_bytes = min(limits.bytes, max(limits.free_bytes, limits.ratio * packed))

    def count_entry(self, name: str) -> None:
        self.entry = name
        self._entries += 1
        if self._entries > self._most_entries:
            raise DataError(
                f"{self.archive} contains more than {self._most_entries:,} entries; stopped at the entry {name}"
            )

    def count_bytes(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._most_bytes:
            raise DataError(
                f"{self.archive} unpacks to more than {self._most_bytes:,} bytes; stopped at the entry {self.entry}"
            )


class _Metered:
    """A stream whose bytes are counted as they are read."""

    def __init__(self, stream: _Readable, meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self._meter.count_bytes(len(content))
        return content


def _tar_entries(archive: Path, meter: _Meter) -> Iterator[tuple[str, _Readable | None]]:
    """Names with their content, None for a folder. The whole stream is counted: headers can be bombs too."""
    with archive.open("rb") as packed:
        zipped = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        stream = _Metered(gzip.GzipFile(fileobj=packed) if zipped else packed, meter)
        # it asks for nothing but `read`
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
            for member in tar:
                meter.count_entry(member.name)
                # a sparse file can grow without a byte of the stream
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise _refused(archive, member.name, "a link, a device or a sparse file")
                yield member.name, tar.extractfile(member)
        # the checksum of gzip comes after the last byte that tar needs
        while stream.read(_CHUNK):
            pass


def _zip_entries(archive: Path, meter: _Meter) -> Iterator[tuple[str, _Readable | None]]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            meter.count_entry(member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, member.filename, "a link or a device")
            if member.is_dir():
                yield member.filename, None
            else:
                with packed.open(member) as content:
                    yield member.filename, _Metered(content, meter)


def _write(draft: Path, archive: Path, name: str, content: _Readable | None) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).anchor:
        raise _refused(archive, name, "an absolute path")
    if ".." in path.parts or "\\" in name or "\0" in name:
        raise _refused(archive, name, "a path that leads out of its folder")
    if any(is_hidden(part) for part in path.parts):
        return
    try:
        if content is None:
            (draft / path).mkdir(parents=True, exist_ok=True)
            return
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        with (draft / path).open("xb") as file:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
    except (FileExistsError, NotADirectoryError):
        raise _refused(archive, name, "a name that appears twice") from None


def _refused(archive: Path, name: str, what: str) -> DataError:
    return DataError(f"{archive} is refused: its entry {name!r} is {what}")


def _check_md5(archive: Path, expected: str) -> None:
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != expected:
        raise DataError(f"{archive} must have the MD5 {expected}, got {actual}: download it again")
