"""A dataset as its annotation files tell it: image files, labels and split. No image is opened to make one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image

from lossgauge.data.images import is_image, open_image
from lossgauge.data.locations import is_hidden, reason_of, regular
from lossgauge.errors import DataError
from lossgauge.types import ImageSet


class Expected(NamedTuple):
    """What a whole dataset has."""

    train: int
    test: int
    classes: int


class Outline(NamedTuple):
    """What can be said of a dataset without reading its images."""

    place: Path
    layout: str
    train: int
    test: int
    protocol: str


class Labelled(NamedTuple):
    """One image file."""

    id: str
    file: Path
    label: int


@dataclass(frozen=True)
class Listing:
    """All images of a dataset, in the order of its rows."""

    name: str
    place: Path
    layout: str
    rows: tuple[Labelled, ...]
    class_names: Mapping[int, str]
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    protocol: str

    def outline(self) -> Outline:
        """Where it is and how many images it has."""
        return Outline(self.place, self.layout, len(self.train), len(self.test), self.protocol)


def labels_of(rows: Sequence[Labelled]) -> Int[np.ndarray, " rows"]:
    """The labels, row by row."""
    return np.array([row.label for row in rows], dtype=np.int64)


def image_set(listing: Listing) -> ImageSet:
    """The listed images, each read from disk when it is asked for, as RGB.

    Reads every file once, for the digest. Raises DataError that names the first file that is missing, and
    the first that lies among them without a label.
    """
    _check_files(listing)
    return ImageSet(
        name=listing.name,
        ids=tuple(row.id for row in listing.rows),
        labels=labels_of(listing.rows),
        class_names=listing.class_names,
        train=listing.train,
        test=listing.test,
        protocol=listing.protocol,
        source=f"{listing.place} ({listing.layout})",
        digest=_digest(listing.rows),
        read=partial(_read, [row.file for row in listing.rows]),
    )


def check_counts(
    name: str, place: Path, expected: Expected, *, train: int, test: int, classes: int, how: str
) -> None:
    """DataError where a dataset has not the numbers of images and classes it must have."""
    found = Expected(train, test, classes)
    if found != expected:
        numbers = [
            f"{n.train:,} + {n.test:,} images of {n.classes} classes" for n in (expected, found)
        ]
        raise DataError(f"{name} must have {numbers[0]}, but {place} has {numbers[1]}: {how}")


def read_text(path: Path) -> str:
    """The text of an annotation file. Raises DataError that names it."""
    try:
        return regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from None


def _check_files(listing: Listing) -> None:
    listed: dict[Path, set[str]] = {}
    for row in listing.rows:
        listed.setdefault(row.file.parent, set()).add(row.file.name)
    missing: list[Path] = []
    unlabelled: list[Path] = []
    for folder, names in listed.items():
        present = set(os.listdir(folder)) if folder.is_dir() else set()
        missing += [folder / name for name in names - present]
        unlabelled += [
            folder / name
            for name in present - names
            if not is_hidden(name) and is_image(folder / name)
        ]
    if missing:
        raise DataError(
            f"{listing.name} in {listing.place} lacks {len(missing):,} of its images, {min(missing)} first"
        )
    if unlabelled:
        raise DataError(
            f"{listing.name} in {listing.place} has {len(unlabelled):,} images without a label, "
            f"{min(unlabelled)} first"
        )


def _digest(rows: Sequence[Labelled]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        try:
            content = regular(row.file).read_bytes()
        except OSError as error:
            raise DataError(f"{row.file} cannot be read: {reason_of(error)}") from None
        # the size says where one file ends and the next id begins
        digest.update(f"{row.id}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _read(files: Sequence[Path], row: int) -> Image.Image:
    # a few photographs are grey: all must be alike
    return open_image(files[row], str(files[row])).convert("RGB")
