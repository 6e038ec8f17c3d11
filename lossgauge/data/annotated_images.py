"""A dataset as its annotation files describe it: image files, labels and split. No image is opened to create it."""

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

from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.data.images import is_image, open_image
from lossgauge.data.locations import is_hidden, reason_of, regular
from lossgauge.errors import DataError
from lossgauge.types import ImageSet


class LabelledImage(NamedTuple):
    """One image file and its class."""

    id: str
    file: Path
    label: int


@dataclass(frozen=True)
class AnnotatedImages:
    """All images of a dataset, in the order of its rows."""

    dataset: Dataset
    place: Path
    layout: str
    rows: tuple[LabelledImage, ...]
    class_names: Mapping[int, str]
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]

    def outline(self) -> Outline:
        """The place of the dataset and the number of its images."""
        return Outline(
            self.place, self.layout, len(self.train), len(self.test), self.dataset.protocol
        )


def labels_of(rows: Sequence[LabelledImage]) -> Int[np.ndarray, " rows"]:
    """The label of each row."""
    return np.array([row.label for row in rows], dtype=np.int64)


def image_set(images: AnnotatedImages) -> ImageSet:
    """The image set of these files. An image is read from disk when it is used, as RGB.

    Reads every file once, for the digest. Raises DataError with the first file that is missing, or the first
    image among them that has no label.
    """
    _check_files(images)
    return ImageSet(
        name=images.dataset.name,
        ids=tuple(row.id for row in images.rows),
        labels=labels_of(images.rows),
        class_names=images.class_names,
        train=images.train,
        test=images.test,
        protocol=images.dataset.protocol,
        source=f"{images.place} ({images.layout})",
        digest=_digest(images.rows),
        read=partial(_read, [row.file for row in images.rows]),
    )


def check_counts(
    dataset: Dataset, place: Path, *, train: int, test: int, classes: int, fix: str | None = None
) -> None:
    """DataError unless a copy has as many images and classes as the complete dataset."""
    counts = Counts(train, test, classes)
    if counts != dataset.expected:
        expected, got = (
            f"{c.train:,} + {c.test:,} images of {c.classes} classes"
            for c in (dataset.expected, counts)
        )
        raise DataError(
            f"{dataset.name} must have {expected}, but {place} has {got}: {fix or dataset.how_to_get}"
        )


def read_text(path: Path) -> str:
    """The text of an annotation file. Raises DataError with its path."""
    try:
        return regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from None


def _check_files(images: AnnotatedImages) -> None:
    labelled: dict[Path, set[str]] = {}
    for row in images.rows:
        labelled.setdefault(row.file.parent, set()).add(row.file.name)
    missing: list[Path] = []
    unlabelled: list[Path] = []
    for folder, names in labelled.items():
        present = set(os.listdir(folder)) if folder.is_dir() else set()
        missing += [folder / name for name in names - present]
        unlabelled += [
            folder / name
            for name in present - names
            if not is_hidden(name) and is_image(folder / name)
        ]
    where = f"{images.dataset.name} in {images.place}"
    if missing:
        raise DataError(
            f"{where} lacks {len(missing):,} of its images, the first is {min(missing)}"
        )
    if unlabelled:
        raise DataError(
            f"{where} has {len(unlabelled):,} images without a label, the first is {min(unlabelled)}"
        )


def _digest(rows: Sequence[LabelledImage]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        try:
            content = regular(row.file).read_bytes()
        except OSError as error:
            raise DataError(f"{row.file} cannot be read: {reason_of(error)}") from None
        # the size marks where a file ends and the next id begins
        digest.update(f"{row.id}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _read(files: Sequence[Path], row: int) -> Image.Image:
    # a few photographs are grey: all must have one mode
    return open_image(files[row], str(files[row])).convert("RGB")
