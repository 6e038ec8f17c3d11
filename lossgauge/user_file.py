"""A file of the user's own, run as code: the one place where a loss or a backbone is imported from it."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lossgauge.errors import InputError


def import_file(file: Path, *, shown: str) -> ModuleType:
    """The module in `file`, which may import its neighbours; errors call it `shown`.

    Two files may each have a neighbour of the same name: each gets its own. Raises InputError where it is no
    Python file, or fails on import.
    """
    place = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"lossgauge_user_{place}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown!r} cannot be imported: it must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look it up
    before = set(sys.modules)
    sys.path.insert(0, str(file.parent))
    try:
        # not exec_module: bytecode on disk is told from its source by second and size, and would run the old one
        source = importlib.util.decode_source(file.read_bytes())
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:  # the user's own code may raise anything; it is named, not swallowed
        raise InputError(f"{shown!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.parent))
        _neighbours[file.resolve()] = _forget_neighbours(file.resolve().parent, before)
    return module


def code_digest(file: Path) -> str:
    """SHA-256 over a file and the neighbours that it imported when it was last run."""
    digest = hashlib.sha256()
    for path in (file.resolve(), *_neighbours.get(file.resolve(), ())):
        digest.update(f"{path.name}\t{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


_neighbours: dict[Path, tuple[Path, ...]] = {}


def _forget_neighbours(folder: Path, before: set[str]) -> tuple[Path, ...]:
    """Modules that came from `folder` since `before`, out of the way of the next file's; and their files, sorted."""
    found = set()
    for name in sys.modules.keys() - before:
        path = Path(getattr(sys.modules[name], "__file__", None) or "/")
        ours = name.partition(".")[0].startswith("lossgauge") or "site-packages" in path.parts
        if path.is_relative_to(folder) and not ours:
            found.add(path)
            del sys.modules[name]
    return tuple(sorted(found))
