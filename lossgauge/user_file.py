"""Imports a user's own file with a loss or a backbone. The file is run as code."""

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
    """The module in `file`, which may import other files of its folder; errors call it `shown`.

    If two user files in different folders import modules of the same name, each gets the one in its own folder.
    Raises InputError if it is not a Python file, or if it fails on import.
    """
    location = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"{_PREFIX}{location}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown!r} cannot be imported: it must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    before = set(sys.modules)
    folder = str(file.absolute().parent)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a file of the folder may be newer than the cached list of the folder
    try:
        # not exec_module: it uses bytecode from disk if the second and the size of the source match
        source = importlib.util.decode_source(file.read_bytes())
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    # the user's code may raise anything, and may call sys.exit; the error is shown, not hidden
    except (Exception, SystemExit) as error:
        raise InputError(f"{shown!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
        _neighbours[file.resolve()] = _forget_neighbours(Path(folder).resolve(), before)
    return module


def files_of(file: Path) -> tuple[Path, ...]:
    """The file, and the files of its folder that it imported when it was last run."""
    return (file.resolve(), *_neighbours.get(file.resolve(), ()))


def imported_files() -> list[Path]:
    """The files that were imported: a process that receives objects of their classes must import them too."""
    return [
        Path(file)
        for name, module in sys.modules.items()
        if name.startswith(_PREFIX) and (file := getattr(module, "__file__", None))
    ]


_neighbours: dict[Path, tuple[Path, ...]] = {}


def _forget_neighbours(folder: Path, before: set[str]) -> tuple[Path, ...]:
    """Remove the modules imported from `folder` since `before`, so the next file imports its own. Returns their files."""
    files = set()
    for name in sys.modules.keys() - before:
        # the path of the folder may be written in another way than those of its modules: with `..`, or through a link
        path = Path(getattr(sys.modules[name], "__file__", None) or "/").resolve()
        ours = name.partition(".")[0] == "lossgauge" or name.startswith(_PREFIX)
        if path.is_relative_to(folder) and not ours and "site-packages" not in path.parts:
            files.add(path)
            del sys.modules[name]
    return tuple(sorted(files))
