"""60,000 photographs of 32×32 pixels in ten classes (Krizhevsky 2009), in the binary files: a label byte, then R, G, B."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int
from PIL import Image

from lossgauge.data.annotated_images import Expected, Outline, check_counts
from lossgauge.data.archives import find_within
from lossgauge.data.locations import NotFound, Unreachable, not_found, places, regular
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

EXPECTED = Expected(train=50_000, test=10_000, classes=10)
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
HOW = (
    f"put {ARCHIVE} of https://www.cs.toronto.edu/~kriz/cifar.html into a folder and name it in "
    "LOSSGAUGE_CIFAR10, or fetch it from the Hugging Face hub with --download"
)
LICENSE = "none stated by its authors; cite Krizhevsky 2009"
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
_PICKLED = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")


def find(root: Path | None = None) -> Path:
    """The folder with the .bin files, else the archive. Raises NotFound that says how to get it."""
    pickled = None
    for place in places(root, "cifar10"):
        for folder in (place / FOLDER, place):
            if any((folder / name).is_file() for name in (*TRAIN, TEST)):
                return folder
        for archive in (place, place / ARCHIVE):
            if archive.is_file() and archive.name not in _PICKLED:
                return archive
        traces = (place, *(place / name for name in _PICKLED))
        pickled = pickled or next((p for p in traces if p.exists() and p.name in _PICKLED), None)
    if pickled is not None:
        raise NotFound(
            f"{pickled} is the pickle version of CIFAR-10, and a pickle can run anything; "
            f"the binary version is read: {HOW}"
        )
    raise not_found("cifar10", root, HOW)


def outline(root: Path | None = None) -> Outline:
    """Where it is and how many images it has, by the sizes of its files."""
    place = find(root)
    if place.is_file():
        return Outline(place, "archive", EXPECTED.train, EXPECTED.test, "official")
    counts = [_count(place / name) for name in (*TRAIN, TEST)]
    return Outline(place, FOLDER, sum(counts[:-1]), counts[-1], "official")


def load(root: Path | None = None) -> ImageSet:
    """CIFAR-10 with its official split; train rows come first, batch after batch.

    Reads the files once, for labels and digest; images stay on disk.
    """
    place = find(root)
    folder, layout = place, FOLDER
    if place.is_file():
        folder, layout = find_within(place, find, md5=ARCHIVE_MD5), "archive"
    files = [folder / name for name in (*TRAIN, TEST)]
    counts = [_count(file) for file in files]
    digest = hashlib.sha256()
    labels = np.empty(0, dtype=np.int64)
    for file in files:
        content = _content(file)
        digest.update(content)
        labels = np.append(labels, _labels(content, file))
    train_count = sum(counts[:-1])
    check_counts(
        "cifar10",
        place,
        EXPECTED,
        train=train_count,
        test=counts[-1],
        classes=len(np.unique(labels)),
        how=HOW,
    )
    return ImageSet(
        name="cifar10",
        ids=(
            *(f"train/{row}" for row in range(train_count)),
            *(f"test/{row}" for row in range(counts[-1])),
        ),
        labels=labels,
        class_names=dict(enumerate(CLASSES)),
        train=np.arange(train_count),
        test=np.arange(train_count, len(labels)),
        protocol="official",
        source=f"{place} ({layout})",
        digest=digest.hexdigest(),
        read=partial(_read, files, np.cumsum([0, *counts])),
    )


def _count(file: Path) -> int:
    try:
        size = regular(file).stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}): {HOW}") from None
    if size % RECORD:
        raise DataError(f"{file} must be records of {RECORD:,} bytes, got {size:,} bytes: {HOW}")
    return size // RECORD


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def _labels(content: bytes, file: Path) -> Int[np.ndarray, " records"]:
    labels = np.frombuffer(content, np.uint8)[::RECORD].astype(np.int64)
    if (labels >= len(CLASSES)).any():
        raise DataError(f"{file} must hold labels from 0 to 9, got {labels.max()}: {HOW}")
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
