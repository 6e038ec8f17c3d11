"""110,000 photographs of 64×64 pixels in 200 classes of ImageNet (Stanford CS231n); the unlabelled test side is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lossgauge.data.annotated_images import (
    Expected,
    Labelled,
    Listing,
    Outline,
    check_counts,
    image_set,
    read_text,
)
from lossgauge.data.archives import find_within
from lossgauge.data.locations import folder_or_archive, is_hidden
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

EXPECTED = Expected(train=100_000, test=10_000, classes=200)
ARCHIVE = "tiny-imagenet-200.zip"
FOLDER = "tiny-imagenet-200"
HOW = (
    f"put {ARCHIVE} of http://cs231n.stanford.edu into a folder and name it in "
    "LOSSGAUGE_TINY_IMAGENET, or fetch it from the Hugging Face hub with --download"
)
LICENSE = "ImageNet's terms: non-commercial research and education only"


def find(root: Path | None = None) -> Path:
    """The folder with wnids.txt, else the archive. Raises NotFound that says how to get it."""
    return folder_or_archive(
        "tiny-imagenet", root, folder=FOLDER, archives=(ARCHIVE,), is_whole=_is_whole, how=HOW
    )


def outline(root: Path | None = None) -> Outline:
    """Where it is and how many images it has; no image is opened."""
    place = find(root)
    if place.is_file():
        return Outline(place, "archive", EXPECTED.train, EXPECTED.test, "official")
    return _listing(place, place, FOLDER).outline()


def load(root: Path | None = None) -> ImageSet:
    """Tiny ImageNet: train is train, and val tests. A class id is the rank of its WordNet id among the 200."""
    place = find(root)
    if not place.is_file():
        return image_set(_listing(place, place, FOLDER))
    return image_set(_listing(find_within(place, find), place, "archive"))


def _is_whole(folder: Path) -> bool:
    return (folder / "wnids.txt").is_file() and (folder / "train").is_dir()


def _listing(folder: Path, place: Path, layout: str) -> Listing:
    # ranks, not lines of wnids.txt: copies of the set without that file number the classes so
    wnids = sorted(read_text(folder / "wnids.txt").split())
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    train = list(_train(folder, labels))
    test = sorted(_val(folder, labels))
    check_counts(
        "tiny-imagenet",
        place,
        EXPECTED,
        train=len(train),
        test=len(test),
        classes=len({row.label for row in train}),
        how=HOW,
    )
    return Listing(
        "tiny-imagenet",
        place,
        layout,
        (*train, *test),
        _class_names(folder, labels),
        np.arange(len(train)),
        np.arange(len(train), len(train) + len(test)),
        "official",
    )


def _train(folder: Path, labels: dict[str, int]) -> Iterator[Labelled]:
    inside = {path.name for path in (folder / "train").iterdir() if path.is_dir()}
    strangers = {name for name in inside - labels.keys() if not is_hidden(name)}
    if strangers:
        raise DataError(f"{folder / 'train' / min(strangers)} is no class of wnids.txt")
    for wnid, label in labels.items():
        images = folder / "train" / wnid / "images"
        names = os.listdir(images) if images.is_dir() else []
        for name in sorted(names):
            if name.endswith(".JPEG") and not is_hidden(name):
                yield Labelled(f"train/{wnid}/{name}", images / name, label)


def _val(folder: Path, labels: dict[str, int]) -> Iterator[Labelled]:
    """By val_annotations.txt; images lie in val/images, or sorted into classes as many scripts leave them."""
    path = folder / "val" / "val_annotations.txt"
    flat = (folder / "val" / "images").is_dir()
    seen: set[str] = set()
    for line in read_text(path).splitlines():
        name, wnid = [*line.split("\t"), ""][:2]
        if wnid not in labels or name in seen or Path(name).name != name:
            raise DataError(
                f"{path} must hold lines of a new image, a tab and a class of wnids.txt, got {line!r}"
            )
        seen.add(name)
        parents = [folder / "val" / wnid / "images", folder / "val" / wnid]
        parent = (
            folder / "val" / "images" if flat else next(filter(Path.is_dir, parents), parents[0])
        )
        yield Labelled(f"val/{name}", parent / name, labels[wnid])


def _class_names(folder: Path, labels: dict[str, int]) -> dict[int, str]:
    """What words.txt says of a class; its WordNet id where that file is absent."""
    names = {label: wnid for wnid, label in labels.items()}
    if (folder / "words.txt").is_file():
        for line in read_text(folder / "words.txt").splitlines():
            wnid, _, words = line.partition("\t")
            if wnid in labels and words:
                names[labels[wnid]] = words
    return names
