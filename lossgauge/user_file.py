"""A file of the user's own, run as code: the one place where a loss or a backbone is imported from it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lossgauge.errors import InputError

_PREFIX = "lossgauge_user_"


def import_file(file: Path, *, shown: str) -> ModuleType:
    """The module in `file`, which may import its neighbours; errors call it `shown`.

    Two files may each have a neighbour of the same name: each gets its own. Raises InputError where it is no
    Python file, or fails on import.
    """
    place = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"{_PREFIX}{place}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown!r} cannot be imported: it must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look it up
    before = set(sys.modules)
    folder = str(file.absolute().parent)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a neighbour may be newer than what is known of its folder
    try:
        # not exec_module: bytecode on disk is told from its source by second and size, and would run the old one
        source = importlib.util.decode_source(file.read_bytes())
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    # the user's own code may raise anything, and may leave by sys.exit; it is named, not swallowed
    except (Exception, SystemExit) as error:
        raise InputError(f"{shown!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
        _neighbours[file.resolve()] = _forget_neighbours(Path(folder).resolve(), before)
    return module


def code_digest(file: Path) -> str:
    """SHA-256 over a file and the neighbours that it imported when it was last run."""
    digest = hashlib.sha256()
    for path in (file.resolve(), *_neighbours.get(file.resolve(), ())):
        digest.update(f"{path.name}\t{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def imported_files() -> list[Path]:
    """The files that were imported, for a process that is sent objects of their classes."""
    return [
        Path(file)
        for name, module in sys.modules.items()
        if name.startswith(_PREFIX) and (file := getattr(module, "__file__", None))
    ]


_neighbours: dict[Path, tuple[Path, ...]] = {}


def _forget_neighbours(folder: Path, before: set[str]) -> tuple[Path, ...]:
    """Modules that came from `folder` since `before`, out of the way of the next file's; and their files, sorted."""
    found = set()
    for name in sys.modules.keys() - before:
        # a folder may be named by another way than its modules are: `..`, a link
        path = Path(getattr(sys.modules[name], "__file__", None) or "/").resolve()
        ours = name.partition(".")[0] == "lossgauge" or name.startswith(_PREFIX)
        if path.is_relative_to(folder) and not ours and "site-packages" not in path.parts:
            found.add(path)
            del sys.modules[name]
    return tuple(sorted(found))
