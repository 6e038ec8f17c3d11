"""11,788 photographs of 200 kinds of birds (Wah et al. 2011): CUB-200-2011, class-disjoint."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lossgauge.data.annotated_images import (
    AnnotatedImages,
    LabelledImage,
    check_counts,
    image_set,
    labels_of,
    read_text,
)
from lossgauge.data.archives import find_within
from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.data.locations import folder_or_archive
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

ARCHIVES = ("CUB_200_2011.tgz", "CUB_200_2011.tar.gz")
FOLDER = "CUB_200_2011"


class CUB200(Dataset):
    """The first 100 classes are for training, the other 100 for testing. Rows are in the order of the official ids."""

    name = "cub200"
    expected = Counts(train=5_864, test=5_924, classes=200)
    protocol = "class-disjoint"
    how_to_get = (
        "put CUB_200_2011.tgz of https://data.caltech.edu/records/65de6-vp158 into a folder and set "
        "LOSSGAUGE_CUB200 to that folder; --download cannot fetch it"
    )
    license = "non-commercial research and education only"

    def find(self, root: Path | None = None) -> Path:
        return folder_or_archive(
            self, root, folder=FOLDER, archives=ARCHIVES, is_complete=_is_complete
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
        rows, names = _rows(folder)
        labels = labels_of(rows)
        train, test = class_disjoint(labels)
        class_count = len({row.label for row in rows})
        check_counts(self, place, train=len(train), test=len(test), classes=class_count)
        return AnnotatedImages(self, place, layout, rows, names, train, test)


def _is_complete(folder: Path) -> bool:
    return (folder / "images.txt").is_file() and (folder / "images").is_dir()


def _rows(folder: Path) -> tuple[tuple[LabelledImage, ...], dict[int, str]]:
    """The images by the tables, and the names of the classes."""
    paths = read_table(folder / "images.txt")
    classes = read_table(folder / "image_class_labels.txt")
    names = read_table(folder / "classes.txt")
    unlabelled = sorted(paths.keys() - classes.keys())
    if unlabelled:
        raise DataError(
            f"{folder / 'image_class_labels.txt'} has no label for {len(unlabelled):,} images, "
            f"the first is {paths[unlabelled[0]]}"
        )
    rows = []
    for number in sorted(paths):
        path, label = PurePosixPath(paths[number]), _number(classes[number], folder)
        # a photograph is in the folder of its class: this finds a shuffled table
        if len(path.parts) != 2 or path.parent.name != names.get(label) or ".." in path.parts:
            raise DataError(
                f"{folder / 'images.txt'} names {path}, which is not in the folder of its class, "
                f"{names.get(label)}"
            )
        rows.append(LabelledImage(str(path), folder / "images" / path, label))
    return tuple(rows), names


def read_table(path: Path) -> dict[int, str]:
    """Lines of a number and a word."""
    table: dict[int, str] = {}
    for line in read_text(path).splitlines():
        number, _, word = line.strip().partition(" ")
        if not _is_number(number) or not word or int(number) in table:
            raise DataError(
                f"each line of {path} must be a number that is not repeated and a word, got {line[:80]!r}"
            )
        table[int(number)] = word
    return table


def _number(word: str, folder: Path) -> int:
    if not _is_number(word):
        raise DataError(
            f"{folder / 'image_class_labels.txt'} must contain class numbers, got {word[:80]!r}"
        )
    return int(word)


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) < 10  # Python refuses to read thousands of digits


DATASET = CUB200()
