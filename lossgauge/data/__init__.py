"""Datasets by name: own readers of the official layouts, found on disk, and fetched only when asked to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from lossgauge.data import (
    cars196,
    cifar10,
    cub200,
    digits,
    fashion_mnist,
    hub,
    orl_faces,
    tiny_imagenet,
)
from lossgauge.data.annotated_images import Outline
from lossgauge.data.locations import NotFound
from lossgauge.errors import DataError, InputError, nearest
from lossgauge.types import ImageSet

_READERS: dict[str, ModuleType] = {
    "digits": digits,
    "orl-faces": orl_faces,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cars196": cars196,
    "cub200": cub200,
    "tiny-imagenet": tiny_imagenet,
}
DATASETS = tuple(_READERS)


def load_dataset(
    name: str, root: Path | None = None, *, download: bool = False, split: str | None = None
) -> ImageSet:
    """The dataset of that name, or the images of `folder:PATH`, split as `split` says: named ones have their own.

    A named one is read from `root`, from the folder in LOSSGAUGE_<NAME>, or from where it is usual; without
    a folder given, what was fetched before counts too. Only with `download` is one that is in none of them
    fetched from the Hugging Face hub. Raises InputError for an unknown name, DataError where it is absent
    (with where it was looked for and how to get it) or damaged.
    """
    if name.startswith("folder:"):
        from lossgauge.data import folder

        return folder.load(Path(name.removeprefix("folder:")), split=split)
    if name.startswith("embeddings:"):
        raise InputError(
            f"{name} holds embeddings, which need no images: a study takes them as they are"
        )
    reader, place = _reader(name), _root(name, root)
    try:
        with _allowed(name):
            images: ImageSet = reader.load(place)
        return images
    except NotFound:
        fetched = hub.stored(name) if place is None or download else None
        if fetched is None:
            if not download or name not in hub.REPOSITORIES:
                raise
            fetched = hub.fetch(name, reader.EXPECTED)
        return hub.load(name, fetched, reader.EXPECTED)


def describe_datasets() -> Iterator[str]:
    """A line a dataset: where it was found, layout, counts and split, or how to get it; and its licence.

    No image is opened and nothing is unpacked, so it takes seconds at most.
    """
    for name, reader in _READERS.items():
        try:
            found = _outline(name, reader)
            yield (
                f"{name}: found in {found.place} ({found.layout}), {found.train:,} training and "
                f"{found.test:,} test images, {found.protocol} split; licence: {reader.LICENSE}"
            )
        except NotFound as error:
            yield f"{name}: not here; {error}; licence: {reader.LICENSE}"
        except DataError as error:
            yield f"{name}: cannot be used; {error}"


def _outline(name: str, reader: ModuleType) -> Outline:
    place = _root(name, None)
    try:
        with _allowed(name):
            found: Outline = reader.outline(place)
        return found
    except NotFound:
        fetched = hub.stored(name) if place is None else None
        if fetched is None:
            raise
        return hub.outline(name, fetched, reader.EXPECTED)


@contextmanager
def _allowed(name: str) -> Iterator[None]:
    """A DataError where the files of a dataset are somebody else's."""
    try:
        yield
    except PermissionError as error:
        raise DataError(
            f"{name} cannot be read: this user may not open {error.filename} ({error.strerror})"
        ) from None


def _reader(name: str) -> ModuleType:
    if name not in _READERS:
        raise InputError(f"unknown dataset {name!r}{nearest(name, DATASETS)}")
    return _READERS[name]


def _root(name: str, root: Path | None) -> Path | None:
    variable = os.environ.get("LOSSGAUGE_" + name.upper().replace("-", "_"))
    return root or (Path(variable) if variable else None)
