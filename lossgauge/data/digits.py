"""1,797 handwritten digits of 8×8 pixels, shipped inside scikit-learn (UCI, Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.data.locations import NotFound
from lossgauge.data.splits import halves
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

COUNT = 1797


class Digits(Dataset):
    """The first half of each class is for training. This is our choice: the dataset has no official split."""

    name = "digits"
    expected = Counts(train=896, test=901, classes=10)
    protocol = "halves"
    how_to_get = "pip install 'lossgauge[demo]'"
    license = "CC BY 4.0"

    def find(self, root: Path | None = None) -> Path:
        spec = None if root else find_spec("sklearn")
        if spec is None or spec.origin is None:
            if root is None:
                raise NotFound(
                    f"digits come with scikit-learn, which is not installed: {self.how_to_get}"
                )
            path = root / "digits.csv.gz"
        else:
            path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if not path.is_file():
            raise NotFound(f"digits are not at {path}: {self.how_to_get}")
        return path

    def outline(self, root: Path | None = None) -> Outline:
        return self.complete_outline(self.find(root), "scikit-learn")

    def load(self, root: Path | None = None) -> ImageSet:
        path = self.find(root)
        pixels, labels = _pixels_and_labels(path, fix=self.how_to_get)
        train, test = halves(labels)
        return ImageSet(
            name=self.name,
            ids=tuple(str(row) for row in range(COUNT)),
            labels=labels,
            class_names={digit: str(digit) for digit in range(10)},
            train=train,
            test=test,
            protocol=self.protocol,
            source=f"{path} (scikit-learn)",
            digest=hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest(),
            read=partial(_read, pixels),
        )


def _read(pixels: np.ndarray, row: int) -> Image.Image:
    return Image.fromarray(pixels[row])


def _pixels_and_labels(
    path: Path, *, fix: str
) -> tuple[UInt8[np.ndarray, "rows 8 8"], Int64[np.ndarray, " rows"]]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        table = np.array([line.split(",") for line in lines], dtype=np.int64)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): {fix}") from None
    if table.shape != (COUNT, 65):
        raise DataError(f"{path} must contain {COUNT} rows of 65 numbers, got {table.shape}")
    if table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise DataError(f"{path} must contain pixels from 0 to 16 and digits from 0 to 9: {fix}")
    # 0 … 16 in the file, scaled to a byte
    pixels = (table[:, :64].reshape(-1, 8, 8) * 255 // 16).astype(np.uint8)
    return pixels, table[:, 64]


DATASET = Digits()
