"""70,000 photographs of clothes, 28×28 (Xiao, Rasul, Vollgraf 2017), in the four idx files, checked by hash."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lossgauge.data.dataset import Counts, Dataset, HubCopy, Outline
from lossgauge.data.locations import NotFound
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

PLACES = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# of the decompressed bytes: each distribution compresses them itself
_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_LARGEST = 60_000 * 28 * 28 + 16


class FashionMNIST(Dataset):
    """The official split, 60,000 and 10,000; training rows come first."""

    name = "fashion-mnist"
    expected = Counts(train=60_000, test=10_000, classes=10)
    protocol = "official"
    how_to_get = (
        "install the Debian or Ubuntu package dataset-fashion-mnist, or put the four .gz files of "
        "zalandoresearch/fashion-mnist into a folder and set LOSSGAUGE_FASHION_MNIST to that folder, "
        "or fetch it from the Hugging Face hub with --download"
    )
    license = "MIT"
    hub = HubCopy(
        "zalando-datasets/fashion_mnist", "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2", color=False
    )

    def find(self, root: Path | None = None) -> Path:
        places = (root,) if root else PLACES
        for place in places:
            if all((place / name).is_file() for name in _SHA256):
                return place
        raise NotFound(
            f"fashion-mnist is not in {' or '.join(map(str, places))}: {self.how_to_get}"
        )

    def outline(self, root: Path | None = None) -> Outline:
        return self.complete_outline(self.find(root), "idx")

    def load(self, root: Path | None = None) -> ImageSet:
        folder = self.find(root)
        content = {name: _unpacked(folder / name, fix=self.how_to_get) for name in _SHA256}
        sides = [
            (
                _images(content[f"{side}-images-idx3-ubyte.gz"]),
                _numbers(content[f"{side}-labels-idx1-ubyte.gz"]),
            )
            for side in ("train", "t10k")
        ]
        pixels = np.concatenate([images for images, _ in sides])
        labels = np.concatenate([numbers for _, numbers in sides]).astype(np.int64)
        train_count = len(sides[0][1])
        return ImageSet(
            name=self.name,
            ids=tuple(
                f"{side}/{row}"
                for side, (_, numbers) in zip(("train", "t10k"), sides, strict=True)
                for row in range(len(numbers))
            ),
            labels=labels,
            class_names=dict(enumerate(CLASSES)),
            train=np.arange(train_count),
            test=np.arange(train_count, len(labels)),
            protocol=self.protocol,
            source=f"{folder} (idx)",
            digest=hashlib.sha256("".join(_SHA256.values()).encode()).hexdigest(),
            read=partial(_read, pixels),
        )


def _read(pixels: np.ndarray, row: int) -> Image.Image:
    return Image.fromarray(pixels[row])


def _unpacked(path: Path, *, fix: str) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked ({error}): {fix}") from None
    if hashlib.sha256(content).hexdigest() != _SHA256[path.name]:
        raise DataError(
            f"{path} is not a file of FashionMNIST: its content has another SHA-256; {fix}"
        )
    return content


def _images(content: bytes) -> np.ndarray:
    """idx format: magic 2051, count, rows, columns, then one byte per pixel."""
    count, height, width = np.frombuffer(content, ">u4", 3, offset=4)
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, height, width)


def _numbers(content: bytes) -> np.ndarray:
    """idx format: magic 2049, count, then one byte per label."""
    return np.frombuffer(content, np.uint8, offset=8)


DATASET = FashionMNIST()
