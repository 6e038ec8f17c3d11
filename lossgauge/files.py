"""Files that are complete or absent, and that are read only if they are unchanged since they were written.

Writing: to a temporary name in the same folder, then a sync and a rename. Reading: only regular files, up to a size limit, and only if
they have the SHA-256 that was written with them. A record contains its own SHA-256, a manifest those of the files in its folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lossgauge.errors import CacheError, DiskError
from lossgauge.types import Record

UNFINISHED = ".new-"
"""Prefix of the names of temporary files: a killed process leaves them behind."""

MANIFEST = "manifest.json"
"""The file with the size and SHA-256 of each other file in its folder."""

CHECKSUM = "sha256"
"""The last key of every record: the SHA-256 of the rest, as `_canonical` writes it."""

AGAIN = "run the same `lossgauge study` command again"
"""The fix for a damaged file: a record is written again, a run is done again."""

MOST_RECORD_BYTES, MOST_TABLE_BYTES, MOST_FILE_BYTES = 64 << 20, 4 << 30, 256 << 30
"""The largest JSON record, Parquet table and other file that is read."""

MOST_ROWS = 10_000_000
"""The most rows of a table that is read as Python objects."""

MOST_LEVELS = 20
"""The most levels of nested lists and mappings in a record."""


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`; if the block succeeds, its file is synced to disk and becomes `target`."""
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
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`; if the block succeeds, it is synced to disk and becomes `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(target, tempfile.mkdtemp) as folder:
        try:
            folder.chmod(
                0o777 & ~_umask()
            )  # mkdtemp denies access to others, but a study may be shared
            yield folder
            for path in folder.rglob("*"):
                path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
                _sync(path)
            _sync(folder)
            remove(target)
            folder.rename(target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files for `target` that killed processes left. A process that still writes holds a lock."""
    for left in target.parent.glob(f"{_prefix(target)}*"):
        with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            remove(left)


@contextmanager
def _unfinished(target: Path, make: Callable[..., str]) -> Iterator[Path]:
    """A new file or folder beside `target`, locked within the block so that it is not removed as a leftover."""
    path, handle = _new_and_locked(target, make)
    try:
        yield path
    finally:
        os.close(handle)


def _new_and_locked(target: Path, make: Callable[..., str]) -> tuple[Path, int]:
    while True:
        path = Path(make(prefix=_prefix(target), dir=target.parent))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:  # another process removed it as a leftover before it was locked
            continue
        with suppress(OSError):  # on a file system without locks, leftovers are not removed
            fcntl.flock(handle, fcntl.LOCK_SH)
        if path.exists():
            return path, handle
        os.close(handle)


def _new_file(*, prefix: str, dir: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix, dir=dir)
    os.close(handle)
    return name


def _prefix(target: Path) -> str:
    # a hash, because the name itself may have the maximum length
    return f"{UNFINISHED}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    """Holds a lock on a file or folder; the system releases it when the process ends. OSError if it is refused."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


@contextmanager
def folder_with_manifest(target: Path, *, of: str) -> Iterator[Path]:
    """Like `atomic_folder`, with the manifest that `check_folder` needs; `of` says what the folder belongs to."""
    with atomic_folder(target) as folder:
        yield folder
        files = {path.name: fingerprint(path) for path in sorted(folder.iterdir())}
        write_json(folder / MANIFEST, {"of": of, "files": files})


def check_folder(
    folder: Path,
    *,
    of: str,
    needed: Collection[str],
    load: Mapping[str, Callable[[Path, BufferedReader], Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """The results of `load` for the files that it names. CacheError unless all files match the manifest.

    The manifest must list the files in `needed`. Each file is opened once: the bytes that are loaded are those that were hashed.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    files = manifest.get("files")
    if manifest.get("of") != of:
        raise damaged(path, f"it belongs to {manifest.get('of')!r}")
    if not isinstance(files, dict) or not files.keys() >= set(needed):
        raise damaged(path, "it does not list every file of the folder")
    for name in files:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise damaged(path, f"{name!r} is not the name of a file in the folder")
    return {
        name: content
        for name, expected in files.items()
        if (content := check_file(folder / name, expected, load.get(name))) is not None
    }


def fingerprint(path: Path) -> Record:
    """Size and SHA-256 of a file."""
    with _regular(path, MOST_FILE_BYTES) as file:
        return _fingerprint(file)


def _fingerprint(file: BufferedReader) -> Record:
    return {
        "bytes": os.fstat(file.fileno()).st_size,
        CHECKSUM: hashlib.file_digest(file, "sha256").hexdigest(),
    }


def check_file(
    path: Path, expected: Any, load: Callable[[Path, BufferedReader], Any] | None = None
) -> Any:
    """The result of `load` for a file. CacheError unless its `fingerprint` is the expected one.

    A file of another size is not read.
    """
    try:
        with _regular(path, MOST_FILE_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            if isinstance(expected, dict) and size != expected.get("bytes"):
                raise damaged(path, "its size differs from the manifest")
            if _fingerprint(file) != expected:
                raise damaged(path, "its SHA-256 differs from the manifest")
            if load is None:
                return None
            file.seek(0)
            return load(path, file)
    except OSError as error:
        raise damaged(path, _why(error)) from None


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, record: Record) -> None:
    """Write a record and its checksum, atomically. NaN is refused: unknown values are null.

    A character that UTF-8 cannot represent (from a file name in another encoding) becomes a question mark.
    """
    try:
        checksum = hashlib.sha256(_canonical(record)).hexdigest()
    except UnicodeEncodeError:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        write_json(path, json.loads(text.encode("utf-8", "replace")))
        return
    text = json.dumps({**record, CHECKSUM: checksum}, indent=1, allow_nan=False)
    try:
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from None


def read_json(path: Path) -> Record:
    """The record that `write_json` wrote, with a verified checksum. Raises CacheError if it is damaged or missing."""
    record: Record = _read(path, MOST_RECORD_BYTES, load_json)
    return record


def read_unverified(path: Path) -> Record:
    """A record that may have no checksum, read with the same limits."""
    record: Record = _read(path, MOST_RECORD_BYTES, _load_unverified)
    return record


def load_json(path: Path, file: BufferedReader) -> Record:
    """Like `read_json`, for an open file; `path` is for errors."""
    record = _load_unverified(path, file)
    checksum = record.pop(CHECKSUM, None)
    try:
        actual = hashlib.sha256(_canonical(record)).hexdigest()
    except UnicodeEncodeError:
        raise damaged(path, "it contains an incomplete character") from None
    if checksum != actual:
        raise damaged(path, "its content does not match its checksum")
    return record


def _load_unverified(path: Path, file: BufferedReader) -> Record:
    try:
        content = _content(path, file, MOST_RECORD_BYTES)
        record = json.loads(content, parse_constant=_refuse, parse_float=_number, parse_int=_number)
        _check_levels(record, MOST_LEVELS)
    except RecursionError:
        raise damaged(path, f"it is nested more than {MOST_LEVELS} levels deep") from None
    except ValueError as error:
        raise damaged(path, _why(error)) from None
    if not isinstance(record, dict):
        raise damaged(path, "it is not a JSON object")
    return record


def write_rows(path: Path, rows: list[Record]) -> None:
    """Write rows as Parquet: one column for each name in any row, None if a row does not have it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    write_table(path, pa.table({name: [row.get(name) for row in rows] for name in names}))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, with columns of the types that `read_table` accepts."""
    pq.write_table(table, path)


def read_rows(path: Path) -> list[Record]:
    """The rows that `write_rows` wrote. Raises CacheError if the file is damaged."""
    rows: list[Record] = read_table(path, MOST_ROWS).to_pylist()
    return rows


def read_table(path: Path, most_rows: int | None = None) -> pa.Table:
    """The rows that `write_rows` wrote, as Arrow. Raises CacheError if the file is damaged or repeats a column."""
    return _read(path, MOST_TABLE_BYTES, partial(load_table, most_rows=most_rows))


def load_table(path: Path, file: BufferedReader, most_rows: int | None = MOST_ROWS) -> pa.Table:
    """Like `read_table`, for an open file; `path` is for errors."""
    try:
        table = pq.ParquetFile(pa.BufferReader(_content(path, file, MOST_TABLE_BYTES)))
        if most_rows is not None and table.metadata.num_rows > most_rows:
            raise damaged(path, f"it has more than {most_rows:,} rows")
        _check_columns(path, table.schema_arrow)
        # without threads: a thread of Arrow's pool may still hold a Python buffer when the interpreter ends,
        # and then aborts the process (https://github.com/apache/arrow/issues/45017)
        return table.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, _why(error)) from None


def read_schema(path: Path) -> pa.Schema:
    """The columns of `read_table`."""
    return _read(path, MOST_TABLE_BYTES, load_schema)


def load_schema(path: Path, file: BufferedReader) -> pa.Schema:
    """Like `read_schema`, for an open file; `path` is for errors."""
    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, _why(error)) from None
    _check_columns(path, schema)
    return schema


def _content(path: Path, file: BufferedReader, most_bytes: int) -> bytes:
    if os.fstat(file.fileno()).st_size > most_bytes:
        raise damaged(path, f"it has more than {most_bytes:,} bytes")
    return file.read()


def _read(path: Path, most_bytes: int, load: Callable[[Path, BufferedReader], Any]) -> Any:
    try:
        with _regular(path, most_bytes) as file:
            return load(path, file)
    except OSError as error:
        raise damaged(path, _why(error)) from None


def damaged(path: Path, why: str) -> CacheError:
    """The error for a file whose content is not what was written."""
    return CacheError(f"{path} is damaged ({why}); {AGAIN}")


@contextmanager
def _regular(path: Path, most_bytes: int) -> Iterator[BufferedReader]:
    """The file, open for reading. CacheError if it is a pipe, a folder or a device, or too large."""
    # not blocking: opening a pipe would wait until another process writes into it
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    about = os.fstat(handle)
    regular = stat.S_ISREG(about.st_mode)
    if not regular or about.st_size > most_bytes:
        os.close(handle)
        why = f"it has more than {most_bytes:,} bytes" if regular else "it is not a regular file"
        raise damaged(path, why)
    with open(handle, "rb") as file:
        yield file


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not valid JSON, line {error.lineno}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(getattr(error, "strerror", None) or error)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    """CacheError unless each column appears once, with a type that a table of ours can have."""
    if len(set(schema.names)) < len(schema.names):
        raise damaged(path, "two columns have the same name")
    whole, real = {pa.int32(), pa.int64()}, {pa.float32(), pa.float64()}
    kinds = whole | real | {pa.null(), pa.string(), pa.bool_()}
    for field in schema:
        if field.type not in kinds:
            raise damaged(path, f"its column {field.name!r} has the type {field.type}")


def _canonical(record: Record) -> bytes:
    """A record as bytes that depend only on its content, not on the layout of its file."""
    text = json.dumps(
        record, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode("utf-8")


def _number(text: str) -> int | float:
    """A number of a record. ValueError if it does not fit float64."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is out of range")
    return int(text) if text.lstrip("-").isdigit() else number


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not a finite number")


def _check_levels(value: Any, most: int) -> None:
    if most < 0:
        raise RecursionError
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_levels(part, most - 1)


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
