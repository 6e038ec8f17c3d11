"""60,000 photographs of 32×32 pixels in ten classes (Krizhevsky 2009), in the binary files: a label byte, then R, G, B."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int
from PIL import Image

from lossgauge.data.annotated_images import check_counts
from lossgauge.data.archives import find_within
from lossgauge.data.dataset import Counts, Dataset, HubCopy, Outline
from lossgauge.data.locations import NotFound, Unreachable, not_found, places, regular
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
_PICKLED = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")


class Cifar10(Dataset):
    """The official split; training rows come first, batch after batch. Images stay on disk."""

    name = "cifar10"
    expected = Counts(train=50_000, test=10_000, classes=10)
    protocol = "official"
    how_to_get = (
        f"put {ARCHIVE} of https://www.cs.toronto.edu/~kriz/cifar.html into a folder and set "
        "LOSSGAUGE_CIFAR10 to that folder, or fetch it from the Hugging Face hub with --download"
    )
    license = "none stated by its authors; cite Krizhevsky 2009"
    hub = HubCopy("uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2", image="img")

    def find(self, root: Path | None = None) -> Path:
        pickled = None
        for place in places(root, self.name):
            for folder in (place / FOLDER, place):
                if any((folder / name).is_file() for name in (*TRAIN, TEST)):
                    return folder
            for archive in (place, place / ARCHIVE):
                if archive.is_file() and archive.name not in _PICKLED:
                    return archive
            traces = (place, *(place / name for name in _PICKLED))
            pickled = pickled or next(
                (p for p in traces if p.exists() and p.name in _PICKLED), None
            )
        if pickled is not None:
            raise NotFound(
                f"{pickled} is the pickle version of CIFAR-10, and loading a pickle can run any code; "
                f"only the binary version is read: {self.how_to_get}"
            )
        raise not_found(self, root)

    def outline(self, root: Path | None = None) -> Outline:
        place = self.find(root)
        if place.is_file():
            return self.complete_outline(place, "archive")
        counts = [_count(place / name, fix=self.how_to_get) for name in (*TRAIN, TEST)]
        return Outline(place, FOLDER, sum(counts[:-1]), counts[-1], self.protocol)

    def load(self, root: Path | None = None) -> ImageSet:
        place = self.find(root)
        folder, layout = place, FOLDER
        if place.is_file():
            folder, layout = find_within(place, self.find, md5=ARCHIVE_MD5), "archive"
        files = [folder / name for name in (*TRAIN, TEST)]
        counts = [_count(file, fix=self.how_to_get) for file in files]
        digest = hashlib.sha256()
        labels = np.empty(0, dtype=np.int64)
        for file in files:
            content = _content(file)
            digest.update(content)
            labels = np.append(labels, _labels(content, file, fix=self.how_to_get))
        train_count, test_count = sum(counts[:-1]), counts[-1]
        classes = len(np.unique(labels))
        check_counts(self, place, train=train_count, test=test_count, classes=classes)
        return ImageSet(
            name=self.name,
            ids=(
                *(f"train/{row}" for row in range(train_count)),
                *(f"test/{row}" for row in range(test_count)),
            ),
            labels=labels,
            class_names=dict(enumerate(CLASSES)),
            train=np.arange(train_count),
            test=np.arange(train_count, len(labels)),
            protocol=self.protocol,
            source=f"{place} ({layout})",
            digest=digest.hexdigest(),
            read=partial(_read, files, np.cumsum([0, *counts])),
        )


def _count(file: Path, *, fix: str) -> int:
    try:
        size = regular(file).stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}): {fix}") from None
    if size % RECORD:
        raise DataError(
            f"{file} must contain records of {RECORD:,} bytes, got {size:,} bytes: {fix}"
        )
    return size // RECORD


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def _labels(content: bytes, file: Path, *, fix: str) -> Int[np.ndarray, " records"]:
    labels = np.frombuffer(content, np.uint8)[::RECORD].astype(np.int64)
    if (labels >= len(CLASSES)).any():
        raise DataError(f"{file} must contain labels from 0 to 9, got {labels.max()}: {fix}")
    return labels


def _read(files: list[Path], firsts: Int[np.ndarray, " ends"], row: int) -> Image.Image:
    number = int(np.searchsorted(firsts, row, side="right")) - 1
    try:
        with files[number].open("rb") as file:
            file.seek((row - int(firsts[number])) * RECORD + 1)
            planes = np.frombuffer(file.read(RECORD - 1), np.uint8).reshape(3, SIDE, SIDE)
    except (OSError, ValueError) as error:
        raise Unreachable(f"{files[number]} cannot be read: {error}") from None
    return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


DATASET = Cifar10()
