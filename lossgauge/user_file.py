"""A file of the user's own, run as code: the one place where a loss or a backbone is imported from it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lossgauge.errors import InputError


def import_file(file: Path, *, shown: str) -> ModuleType:
    """The module in `file`, which may import its neighbours; errors call it `shown`.

    Raises InputError where it is no Python file, or fails on import.
    """
    spec = importlib.util.spec_from_file_location(f"lossgauge_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown!r} cannot be imported: it must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look it up
    sys.path.insert(0, str(file.parent))
    try:
        # not exec_module: bytecode on disk is told from its source by second and size, and would run the old one
        source = importlib.util.decode_source(file.read_bytes())
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:  # the user's own code may raise anything; it is named, not swallowed
        raise InputError(f"{shown!r} fails on import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.parent))
    return module
