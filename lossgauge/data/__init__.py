"""Datasets by name: read from disk in their official layouts, and fetched only if asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lossgauge.data import (
    cars196,
    cars196_official,
    cifar10,
    cub200,
    cub200_official,
    digits,
    fashion_mnist,
    folder,
    hub,
    mnist_5k,
    orl_faces,
    pairs,
    texts,
    tiny_imagenet,
    toy,
    wordnet,
    wordnet_glosses,
)
from lossgauge.data.dataset import Dataset, Outline
from lossgauge.data.locations import NotFound
from lossgauge.errors import DataError, InputError, nearest
from lossgauge.types import ImageSet

_DATASETS: tuple[Dataset, ...] = (
    digits.DATASET,
    orl_faces.DATASET,
    mnist_5k.DATASET,
    fashion_mnist.DATASET,
    cifar10.DATASET,
    cars196.DATASET,
    cub200.DATASET,
    cars196_official.DATASET,
    cub200_official.DATASET,
    tiny_imagenet.DATASET,
    wordnet.DATASET,
    wordnet_glosses.DATASET,
)
_BY_NAME = {dataset.name: dataset for dataset in _DATASETS}
DATASETS = tuple(_BY_NAME)

FOLDER, EMBEDDINGS, TOY = "folder:", "embeddings:", "toy:"
TEXTS, PAIRS = "texts:", "pairs:"
OWN = (FOLDER, EMBEDDINGS, TEXTS, PAIRS)
"""The names of a user's own data begin with one of these: images, embeddings, labelled texts, queries and documents. `toy:` is
made up."""

WITHOUT_BACKBONE = (EMBEDDINGS, TOY)
"""Data whose rows are features already."""


def needs_backbone(name: str) -> bool:
    """Whether the rows of a dataset become features by a backbone: not embeddings, and not pairs of vectors."""
    if name.startswith(PAIRS):
        return not pairs.has_vectors(Path(name.removeprefix(PAIRS)))
    return not name.startswith(WITHOUT_BACKBONE)


def load_dataset(
    name: str, root: Path | None = None, *, download: bool = False, split: str | None = None
) -> ImageSet:
    """The images or texts of a dataset by its name, or of `folder:PATH`, `texts:PATH`, `pairs:PATH`. Only these use `split`.

    A named dataset is read from `root`, else from the folder in LOSSGAUGE_<NAME>, else from the usual places, else
    from an earlier download. With `download`, one that is in none of these is fetched from the Hugging Face hub.
    Raises InputError for an unknown name, DataError if it was not found (with where it was searched for and how
    to get it) or is damaged.
    """
    check_dataset_name(name)
    if name.startswith(FOLDER):
        return folder.load(Path(name.removeprefix(FOLDER)), split=split)
    if name.startswith(TEXTS):
        return texts.load(Path(name.removeprefix(TEXTS)), split=split)
    if name.startswith(PAIRS):
        found = pairs.load(Path(name.removeprefix(PAIRS)), split=split)
        if isinstance(found, ImageSet):
            return found
        raise InputError(
            f"{name} has vectors, not texts: use it in a study, where it needs no backbone"
        )
    if name.startswith(WITHOUT_BACKBONE):
        raise InputError(
            f"{name} has {'features' if name.startswith(TOY) else 'embeddings'}, not images: use it in a study, where it needs no backbone"
        )
    dataset = named_dataset(name)
    place = _root(dataset, root)
    try:
        with _readable(name):
            return dataset.load(place)
    except NotFound:
        fetched = hub.stored(dataset) if place is None or download else None
        if fetched is None:
            if not download or dataset.hub is None:
                raise
            fetched = hub.fetch(dataset)
        return hub.load(dataset, fetched)


def named_dataset(name: str) -> Dataset:
    """The dataset with this name. Raises InputError, with the nearest name, if there is none."""
    if name not in _BY_NAME:
        raise InputError(
            f"unknown dataset {name!r}{nearest(name, DATASETS)}; your own data is {', '.join(f'{kind}PATH' for kind in OWN[:-1])} or {OWN[-1]}PATH"
        )
    return _BY_NAME[name]


def check_dataset_name(name: str) -> None:
    """InputError, with the nearest name, unless it is a named dataset, one of `OWN` with a path, or a toy set."""
    kind, colon, path = name.partition(":")
    if not colon:
        named_dataset(name)
    elif f"{kind}:" == TOY:
        if path not in toy.NAMES:
            raise InputError(f"unknown toy set {path!r}{nearest(path, toy.NAMES)}")
    elif f"{kind}:" not in OWN:
        raise InputError(f"unknown kind of data {name!r}{nearest(f'{kind}:', OWN)}")
    elif not path:
        raise InputError(f"{name} needs a path, as in {name}my-data")


def describe_datasets() -> Iterator[str]:
    """One text per dataset: where it was found, layout, counts and split, or how to get it; and its licence.

    Opens no image and unpacks nothing, so it takes a few seconds at most.
    """
    for dataset in _DATASETS:
        name = dataset.name
        try:
            outline = _outline(dataset)
            yield (
                f"{name}: found in {outline.place} ({outline.layout}), {outline.train:,} training and "
                f"{outline.test:,} test {dataset.items}, {outline.protocol} split; licence: {dataset.license}"
            )
        except NotFound as error:
            yield f"{name}: not found; {error}; licence: {dataset.license}"
        except DataError as error:
            yield f"{name}: cannot be used; {error}"


def _outline(dataset: Dataset) -> Outline:
    place = _root(dataset, None)
    try:
        with _readable(dataset.name):
            return dataset.outline(place)
    except NotFound:
        fetched = hub.stored(dataset) if place is None else None
        if fetched is None:
            raise
        return hub.outline(dataset, fetched)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns a missing permission into a DataError."""
    try:
        yield
    except PermissionError as error:
        raise DataError(
            f"{name} cannot be read: this user has no permission to open {error.filename} ({error.strerror})"
        ) from None


def _root(dataset: Dataset, root: Path | None) -> Path | None:
    name = dataset.copy_of or dataset.name
    variable = os.environ.get("LOSSGAUGE_" + name.upper().replace("-", "_"))
    return root or (Path(variable) if variable else None)
