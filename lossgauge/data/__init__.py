"""Datasets by name: own readers of the official layouts, found on disk and never fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from lossgauge.data import digits, fashion_mnist, orl_faces
from lossgauge.errors import DataError, InputError, nearest
from lossgauge.types import ImageSet

_READERS: dict[str, ModuleType] = {
    "digits": digits,
    "orl-faces": orl_faces,
    "fashion-mnist": fashion_mnist,
}
_NO_READER = ("cifar10", "cars196", "cub200", "tiny-imagenet")
DATASETS = (*_READERS, *_NO_READER)


def load_dataset(name: str, root: Path | None = None) -> ImageSet:
    """The dataset of that name, from `root`, from the folder in LOSSGAUGE_<NAME>, or from where it is usual.

    Raises InputError for an unknown name, DataError where it is absent (with where it was looked for and
    how to get it) or damaged.
    """
    images: ImageSet = _reader(name).load(_root(name, root))
    return images


def describe_datasets() -> Iterator[str]:
    """A line a dataset: where it was found, or where it was looked for and how to get it."""
    for name in DATASETS:
        try:
            reader = _reader(name)
            yield f"{name}: found in {reader.find(_root(name, None))} ({reader.LICENSE})"
        except DataError as error:
            yield f"{name}: not here; {error}"


def _reader(name: str) -> ModuleType:
    if name in _NO_READER:
        raise DataError(f"this version of lossgauge has no reader for {name} yet")
    if name not in _READERS:
        raise InputError(f"unknown dataset {name!r}{nearest(name, DATASETS)}")
    return _READERS[name]


def _root(name: str, root: Path | None) -> Path | None:
    variable = os.environ.get("LOSSGAUGE_" + name.upper().replace("-", "_"))
    return root or (Path(variable) if variable else None)
