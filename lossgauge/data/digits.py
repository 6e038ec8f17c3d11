"""1,797 handwritten digits of 8×8 pixels, shipped inside scikit-learn (UCI, Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from lossgauge.data.annotated_images import Expected, Outline
from lossgauge.data.locations import NotFound
from lossgauge.data.splits import halves
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

COUNT = 1797
EXPECTED = Expected(train=896, test=901, classes=10)
HOW = "pip install 'lossgauge[demo]'"
LICENSE = "CC BY 4.0"


def find(root: Path | None = None) -> Path:
    """The file with the digits. Raises NotFound that says how to get it."""
    spec = None if root else find_spec("sklearn")
    if spec is None or spec.origin is None:
        if root is None:
            raise NotFound(f"digits come with scikit-learn, which is not installed: {HOW}")
        path = root / "digits.csv.gz"
    else:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise NotFound(f"digits are not at {path}: {HOW}")
    return path


def outline(root: Path | None = None) -> Outline:
    """Where they are and how many."""
    return Outline(find(root), "scikit-learn", EXPECTED.train, EXPECTED.test, "halves")


def load(root: Path | None = None) -> ImageSet:
    """The digits; within each class the first half trains (our choice: the set has no split of its own)."""
    path = find(root)
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        table = np.array([line.split(",") for line in lines], dtype=np.int64)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): {HOW}") from None
    if table.shape != (COUNT, 65):
        raise DataError(f"{path} must hold {COUNT} rows of 65 numbers, got {table.shape}")
    if table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise DataError(f"{path} must hold pixels from 0 to 16 and digits: {HOW}")
    # 0 … 16 in the file; spread over a byte
    pixels = (table[:, :64].reshape(-1, 8, 8) * 255 // 16).astype(np.uint8)
    labels = table[:, 64]
    train, test = halves(labels)
    return ImageSet(
        name="digits",
        ids=tuple(str(row) for row in range(COUNT)),
        labels=labels,
        class_names={digit: str(digit) for digit in range(10)},
        train=train,
        test=test,
        protocol="halves",
        source=f"{path} (scikit-learn)",
        digest=hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest(),
        read=partial(_read, pixels),
    )


def _read(pixels: np.ndarray, row: int) -> Image.Image:
    return Image.fromarray(pixels[row])
