"""Ready embeddings from a file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from lossgauge.errors import DataError


def read_embeddings(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays `embeddings` and `labels` of an .npz file, as they are. Pickled arrays are refused."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"embeddings", "labels"} - set(arrays.files)
            if missing:
                raise DataError(
                    f"{path} must hold the arrays 'embeddings' and 'labels', got {sorted(arrays.files)}"
                )
            return arrays["embeddings"], arrays["labels"]
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from None
