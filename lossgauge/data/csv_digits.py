"""Digit images that a package ships as one compressed CSV file: a row for each image, its pixels and then its class."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from lossgauge.data.dataset import Dataset, Outline
from lossgauge.data.locations import NotFound
from lossgauge.data.splits import halves
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

MOST_BYTES = 64 * 2**20
"""Of the unpacked file: a damaged one may claim more."""


class CsvDigits(Dataset):
    """The first half of each class is for training. This is our choice: these sets have no official split."""

    protocol = "halves"
    package: ClassVar[str]
    """As it is imported."""
    distribution: ClassVar[str]
    """As it is installed."""
    file: ClassVar[str]
    """Inside the package."""
    side: ClassVar[int]
    """Pixels of an image in each direction."""
    brightest: ClassVar[int]
    """The largest value of a pixel in the file."""

    def find(self, root: Path | None = None) -> Path:
        spec = None if root else find_spec(self.package)  # not import: only the file is needed
        if spec is None or spec.origin is None:
            if root is None:
                raise NotFound(
                    f"{self.name} come with {self.distribution}, which is not installed: {self.how_to_get}"
                )
            path = root / Path(self.file).name
        else:
            path = Path(spec.origin).parent / self.file
        if not path.is_file():
            raise NotFound(f"{self.name} are not at {path}: {self.how_to_get}")
        return path

    def outline(self, root: Path | None = None) -> Outline:
        return self.complete_outline(self.find(root), self.distribution)

    def load(self, root: Path | None = None) -> ImageSet:
        path = self.find(root)
        pixels, labels = self._pixels_and_labels(path)
        train, test = halves(labels)
        return ImageSet(
            name=self.name,
            ids=tuple(str(row) for row in range(len(labels))),
            labels=labels,
            class_names={digit: str(digit) for digit in range(10)},
            train=train,
            test=test,
            protocol=self.protocol,
            source=f"{path} ({self.distribution})",
            digest=hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest(),
            read=partial(_read, pixels),
        )

    def _pixels_and_labels(
        self, path: Path
    ) -> tuple[UInt8[np.ndarray, "rows side side"], Int64[np.ndarray, " rows"]]:
        count, width = self.expected.train + self.expected.test, self.side**2
        try:
            with gzip.open(path) as file:
                lines = file.read(MOST_BYTES).decode().splitlines()
            none = np.empty((0, 0), dtype=np.int64)
            table = np.loadtxt(lines, np.int64, None, ",", ndmin=2) if lines else none
        except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
            raise DataError(f"{path} cannot be read ({error}): {self.how_to_get}") from None
        if table.shape != (count, width + 1):
            raise DataError(
                f"{path} must contain {count} rows of {width + 1} numbers, got {table.shape}"
            )
        if table.min() < 0 or table[:, :-1].max() > self.brightest or table[:, -1].max() > 9:
            raise DataError(
                f"{path} must contain pixels from 0 to {self.brightest} and digits from 0 to 9: {self.how_to_get}"
            )
        # 0 … brightest in the file, scaled to a byte
        pixels = (table[:, :-1].reshape(-1, self.side, self.side) * 255 // self.brightest).astype(
            np.uint8
        )
        return pixels, table[:, -1]


def _read(pixels: np.ndarray, row: int) -> Image.Image:
    return Image.fromarray(pixels[row])
