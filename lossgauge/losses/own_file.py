"""A user's own loss in a file: `my_loss.py:Pull`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossgauge.errors import InputError, nearest
from lossgauge.user_file import import_file


def from_file(name: str) -> Callable[..., Any]:
    """The class `file.py:Name`; a plain function is wrapped as a loss without settings. The file is run as code.

    Raises InputError if the file or the name does not exist, or the file fails on import.
    """
    path, _, attribute = name.rpartition(":")
    if not os.path.isfile(path):  # also false for a name that is too long
        raise InputError(
            f"the name of your own loss must be file.py:Name, but there is no file {path!r}"
        )
    module = import_file(Path(path), shown=path)
    made = getattr(module, attribute, None)
    if not callable(made):
        known = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_")
        ]
        raise InputError(f"{path!r} has no loss {attribute!r}{nearest(attribute, known)}")
    if inspect.isclass(made):
        return made
    from lossgauge.losses.function_loss import FunctionLoss

    return lambda: FunctionLoss(made)
