"""110,000 photographs of 64×64 pixels in 200 classes of ImageNet (Stanford CS231n), without the unlabelled test side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lossgauge.data.annotated_images import (
    AnnotatedImages,
    LabelledImage,
    check_counts,
    image_set,
    read_text,
)
from lossgauge.data.archives import find_within
from lossgauge.data.dataset import Counts, Dataset, HubCopy, Outline
from lossgauge.data.locations import folder_or_archive, is_hidden
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

ARCHIVE = "tiny-imagenet-200.zip"
FOLDER = "tiny-imagenet-200"


class TinyImageNet(Dataset):
    """The official `train` is for training and `val` for testing. A class id is the rank of its WordNet id among the 200."""

    name = "tiny-imagenet"
    expected = Counts(train=100_000, test=10_000, classes=200)
    protocol = "official"
    how_to_get = (
        f"put {ARCHIVE} of http://cs231n.stanford.edu into a folder and set LOSSGAUGE_TINY_IMAGENET to "
        "that folder, or fetch it from the Hugging Face hub with --download"
    )
    license = "ImageNet's terms: non-commercial research and education only"
    hub = HubCopy(
        "zh-plus/tiny-imagenet",
        "5a77092c28e51558c5586e9c5eb71a7e17a5e43f",
        splits=("train", "valid"),
        sorted_classes=True,
    )

    def find(self, root: Path | None = None) -> Path:
        return folder_or_archive(
            self, root, folder=FOLDER, archives=(ARCHIVE,), is_complete=_is_complete
        )

    def outline(self, root: Path | None = None) -> Outline:
        place = self.find(root)
        if place.is_file():
            return self.complete_outline(place, "archive")
        return self._images(place, place, FOLDER).outline()

    def load(self, root: Path | None = None) -> ImageSet:
        place = self.find(root)
        if not place.is_file():
            return image_set(self._images(place, place, FOLDER))
        return image_set(self._images(find_within(place, self.find), place, "archive"))

    def _images(self, folder: Path, place: Path, layout: str) -> AnnotatedImages:
        # ranks, not lines of wnids.txt: copies without that file number the classes by rank
        wnids = sorted(read_text(folder / "wnids.txt").split())
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        train = list(_train(folder, labels))
        test = sorted(_val(folder, labels))
        class_count = len({row.label for row in train})
        check_counts(self, place, train=len(train), test=len(test), classes=class_count)
        return AnnotatedImages(
            self,
            place,
            layout,
            (*train, *test),
            _class_names(folder, labels),
            np.arange(len(train)),
            np.arange(len(train), len(train) + len(test)),
        )


def _is_complete(folder: Path) -> bool:
    return (folder / "wnids.txt").is_file() and (folder / "train").is_dir()


def _train(folder: Path, labels: dict[str, int]) -> Iterator[LabelledImage]:
    folders = {path.name for path in (folder / "train").iterdir() if path.is_dir()}
    unknown = {name for name in folders - labels.keys() if not is_hidden(name)}
    if unknown:
        raise DataError(f"{folder / 'train' / min(unknown)} is not a class of wnids.txt")
    for wnid, label in labels.items():
        images = folder / "train" / wnid / "images"
        names = os.listdir(images) if images.is_dir() else []
        for name in sorted(names):
            if name.endswith(".JPEG") and not is_hidden(name):
                yield LabelledImage(f"train/{wnid}/{name}", images / name, label)


def _val(folder: Path, labels: dict[str, int]) -> Iterator[LabelledImage]:
    """The rows of val_annotations.txt. Images are in val/images, or in class folders, as many scripts sort them."""
    path = folder / "val" / "val_annotations.txt"
    flat = (folder / "val" / "images").is_dir()
    seen: set[str] = set()
    for line in read_text(path).splitlines():
        name, wnid = [*line.split("\t"), ""][:2]
        if wnid not in labels or name in seen or Path(name).name != name:
            raise DataError(
                f"each line of {path} must be an image that is not repeated, a tab and a class of wnids.txt, got {line!r}"
            )
        seen.add(name)
        parents = [folder / "val" / wnid / "images", folder / "val" / wnid]
        parent = (
            folder / "val" / "images" if flat else next(filter(Path.is_dir, parents), parents[0])
        )
        yield LabelledImage(f"val/{name}", parent / name, labels[wnid])


def _class_names(folder: Path, labels: dict[str, int]) -> dict[int, str]:
    """Names from words.txt; a WordNet id where it has none."""
    names = {label: wnid for wnid, label in labels.items()}
    if (folder / "words.txt").is_file():
        for line in read_text(folder / "words.txt").splitlines():
            wnid, _, words = line.partition("\t")
            if wnid in labels and words:
                names[labels[wnid]] = words
    return names


DATASET = TinyImageNet()
