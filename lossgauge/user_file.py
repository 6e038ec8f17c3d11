"""A user's own file, run as code: the one place where a loss or a backbone is imported from it."""

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
    """The module in `file`, which may import its neighbours; errors name it as `shown`.

    Two files may each have a neighbour of the same name: each gets its own. Raises InputError if it is not a
    Python file, or if it fails on import.
    """
    location = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"{_PREFIX}{location}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown!r} cannot be imported: it must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look it up
    before = set(sys.modules)
    folder = str(file.absolute().parent)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a neighbour may be newer than the cached list of its folder
    try:
        # not exec_module: it takes bytecode on disk for current if second and size of the source agree
        source = importlib.util.decode_source(file.read_bytes())
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    # the user's own code may raise anything, and may leave by sys.exit; it is named, not swallowed
    except (Exception, SystemExit) as error:
        raise InputError(f"{shown!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
        _neighbours[file.resolve()] = _forget_neighbours(Path(folder).resolve(), before)
    return module


def files_of(file: Path) -> tuple[Path, ...]:
    """The file and the neighbours that it imported when it was last run."""
    return (file.resolve(), *_neighbours.get(file.resolve(), ()))


def imported_files() -> list[Path]:
    """The files that were imported, for a process that is sent objects of their classes."""
    return [
        Path(file)
        for name, module in sys.modules.items()
        if name.startswith(_PREFIX) and (file := getattr(module, "__file__", None))
    ]


_neighbours: dict[Path, tuple[Path, ...]] = {}


def _forget_neighbours(folder: Path, before: set[str]) -> tuple[Path, ...]:
    """Forget the modules that were imported from `folder` since `before`: the next file has its own. Their files, sorted."""
    files = set()
    for name in sys.modules.keys() - before:
        # a folder may be named in another way than its modules: by `..`, by a link
        path = Path(getattr(sys.modules[name], "__file__", None) or "/").resolve()
        ours = name.partition(".")[0] == "lossgauge" or name.startswith(_PREFIX)
        if path.is_relative_to(folder) and not ours and "site-packages" not in path.parts:
            files.add(path)
            del sys.modules[name]
    return tuple(sorted(files))
