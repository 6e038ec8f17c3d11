"""Compiled kernels, stored on disk for later processes.

    <folder>/<kernel>-<number type>-<key>    a line that describes the rest, then the code
    <folder>/.lock                           held by the process that compiles

Code from this folder is executed. So nobody else can write the folder, a file is read only if it belongs to the
user and has the SHA-256 in its first line, and nothing is unpickled. The key is a hash over everything that
the code depends on: the sources, the versions of the compilers, and the processor.

numba's own cache is not used: it is stored beside the source, which may be read-only; it has one index for all kernels,
which two processes may damage; and this index is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import cfunc, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from lossgauge.user_folders import is_own, private_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAIT_SECONDS = 60.0
"""The longest total time that a process waits for others that compile."""

_NAME_ONE = "name a folder of your own in LOSSGAUGE_CACHE"
_log = logging.getLogger(__name__)
# the name of the library in numba's engine, the name of the function in it, object code, and bitcode with its definitions
_Code = tuple[str, str, bytes, bytes]


def address_of(function: Callable[[Any], None], *, name: str) -> int:
    """The address of the machine code of `function` in memory; it is read from disk if it was compiled before.

    The code takes a pointer to int64. `name` is unique in this package. Only one process compiles at a time.
    """
    folder = _folder()
    if folder is None:
        return _compiled(function, name)[0]
    path = folder / f"{name}-{_key(name)}"
    if code := _read(path):
        return _loaded(code)
    with _turn(folder) as has_turn:
        if code := _read(path):  # the process that held the lock compiled it
            return _loaded(code)
        address, code = _compiled(function, name)
        if has_turn and code is not None:
            _write(path, code)
    return address


@cache
def _folder() -> Path | None:
    named = os.environ.get("NUMBA_CACHE_DIR")
    folder = private_folder("compiled", first=[Path(named)] if named else [])
    if folder is None:
        _warn_once(f"no private folder of this user can be written; {_NAME_ONE}")
    return folder


@cache
def _key(name: str) -> str:
    """A hash over everything that the code depends on."""
    digest = hashlib.sha256(name.encode())
    for source in sorted(files(__package__).iterdir(), key=lambda file: file.name):
        if source.name.endswith((".py", ".pyc")):
            digest.update(source.read_bytes())
    codegen = cpu_target.target_context.codegen()
    versions = (sys.version, numba.__version__, llvmlite.__version__)
    digest.update(repr((versions, codegen.magic_tuple())).encode())
    return digest.hexdigest()[:16]


def _compiled(function: Callable[[Any], None], name: str) -> tuple[int, _Code | None]:
    """The address of the compiled function, and its code if it can be stored."""
    # the names of its symbols contain this name and a number, so the linker cannot confuse them with another kernel's
    function.__qualname__ = name
    made: Any = cfunc(types.void(types.CPointer(types.int64)))(function)
    try:
        library = made._library
        if library.has_dynamic_globals:  # addresses in this process
            return made.address, None
        own_name, _, (code, bitcode) = library.serialize_using_object_code()
        return made.address, (own_name, made.native_name, code, bitcode)
    except AttributeError:  # these are internal names of numba, which another version may not have
        _warn_once("this version of numba gives no access to its machine code")
        return made.address, None


def _loaded(code: _Code) -> int:
    name, function, object_code, bitcode = code
    context = cpu_target.target_context
    with global_compiler_lock:
        context.refresh()  # defines the functions that the code may call
        library = context.codegen().unserialize_library((name, "object", (object_code, bitcode)))
        address: int = library.get_pointer_to_function(function)
    return address


@contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """Waits until no other process compiles. True if this process has the lock; False if the others take too long."""
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except (OSError, AttributeError):  # a full disk, Windows
        yield True  # if two processes write one file at once, it may be damaged, and a third process compiles again
        return
    try:
        yield _locked(lock, folder)
    finally:
        os.close(lock)


class _Waiting:
    """How long this process may still wait for others, for all its kernels together."""

    seconds = WAIT_SECONDS


def _locked(lock: int, folder: Path) -> bool:
    begin = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - begin
            if waited < _Waiting.seconds:
                time.sleep(0.02)
                continue
            if _Waiting.seconds > 0:
                _log.warning(
                    "lossgauge: waited %.0f s for another process that compiles and holds the lock %s; "
                    "this process now compiles too, and does not store its result",
                    waited,
                    folder / ".lock",
                )
            _Waiting.seconds = 0
            return False
        except OSError:  # this disk does not support locks
            pass
        _Waiting.seconds -= time.monotonic() - begin
        return True


def _read(path: Path) -> _Code | None:
    """The stored code; None if the file is missing, belongs to another user, or has changed."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(file, "rb") as stream:
            if not is_own(os.fstat(file)):
                return None
            head, _, body = stream.read().partition(b"\n")
        digest, *parts = json.loads(head)
        if digest != _digest(parts, body):
            return None
        name, function, size = parts
        return name, function, body[:size], body[size:]
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, code: _Code) -> None:
    """Write the file atomically. The temporary name is always the same, so killed processes leave at most one such file."""
    name, function, object_code, bitcode = code
    body = object_code + bitcode
    parts = [name, function, len(object_code)]
    head = json.dumps([_digest(parts, body), *parts])
    draft = path.with_name(f".{path.name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        file = os.open(draft, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with open(file, "wb") as stream:
            stream.write(head.encode() + b"\n" + body)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        _warn_once(f"{path.parent} cannot be written ({error.strerror}); {_NAME_ONE}")


def _digest(parts: list[Any], body: bytes) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode())
    digest.update(body)
    return digest.hexdigest()


@cache
def _warn_once(why: str) -> None:
    _log.warning(
        "lossgauge: compiled code cannot be stored, so each process compiles for some seconds: %s",
        why,
    )
