"""The arrays that `lossgauge embed` writes beside the embeddings."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

HEAD = "head"
"""The SHA-256 of the head's weights, or the name of the frozen features."""
BACKBONE = "backbone"
"""A hash of what the features depend on; no array where that is not known."""
MEAN = "mean"
"""What was subtracted from the directions of a centered file."""
SPLIT = "split"
"""`train` or `test` of each query, where there are both."""


def is_centered(path: Path) -> bool:
    """Whether a mean was subtracted from the rows of a file; a `mean` in a file of others is not ours."""
    if path.suffix != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return {f"{MEAN}.npy", f"{HEAD}.npy"} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def text_in(path: Path, name: str) -> str | None:
    """The text that the array `name` of an .npz file is; None where there is no such file, array or text."""
    if path.suffix != ".npz":
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            array = arrays[name]
            return str(array) if array.ndim == 0 and array.dtype.kind == "U" else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
