"""11,788 photographs of 200 kinds of birds (Wah et al. 2011): CUB-200-2011, class-disjoint."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lossgauge.data.annotated_images import (
    Expected,
    Labelled,
    Listing,
    Outline,
    check_counts,
    image_set,
    labels_of,
    read_text,
)
from lossgauge.data.archives import find_within
from lossgauge.data.locations import folder_or_archive
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

EXPECTED = Expected(train=5_864, test=5_924, classes=200)
ARCHIVES = ("CUB_200_2011.tgz", "CUB_200_2011.tar.gz")
FOLDER = "CUB_200_2011"
HOW = (
    "put CUB_200_2011.tgz of https://data.caltech.edu/records/65de6-vp158 into a folder and name it in "
    "LOSSGAUGE_CUB200; --download has no copy of it"
)
LICENSE = "non-commercial research and education only"


def find(root: Path | None = None) -> Path:
    """The folder with images.txt, else the archive. Raises NotFound that says how to get it."""
    return folder_or_archive(
        "cub200", root, folder=FOLDER, archives=ARCHIVES, is_whole=_is_whole, how=HOW
    )


def outline(root: Path | None = None) -> Outline:
    """Where it is and how many images its tables name."""
    place = find(root)
    if place.is_file():
        return Outline(place, "archive", EXPECTED.train, EXPECTED.test, "class-disjoint")
    return _listing(place, place, FOLDER).outline()


def load(root: Path | None = None) -> ImageSet:
    """CUB-200-2011, class-disjoint: the first 100 classes train, the other 100 test. The order is that of the ids."""
    place = find(root)
    if not place.is_file():
        return image_set(_listing(place, place, FOLDER))
    return image_set(_listing(find_within(place, find), place, "archive"))


def _is_whole(folder: Path) -> bool:
    return (folder / "images.txt").is_file() and (folder / "images").is_dir()


def _listing(folder: Path, place: Path, layout: str) -> Listing:
    paths = _table(folder / "images.txt")
    classes = _table(folder / "image_class_labels.txt")
    names = _table(folder / "classes.txt")
    unlabelled = sorted(paths.keys() - classes.keys())
    if unlabelled:
        raise DataError(
            f"{folder / 'image_class_labels.txt'} gives {len(unlabelled):,} images no label, "
            f"{paths[unlabelled[0]]} first"
        )
    rows = []
    for number in sorted(paths):
        path, label = PurePosixPath(paths[number]), _number(classes[number], folder)
        # a photograph lies in the folder of its class: a shuffled table would not fit
        if len(path.parts) != 2 or path.parent.name != names.get(label) or ".." in path.parts:
            raise DataError(
                f"{folder / 'images.txt'} names {path}, which is not in the folder of its class, "
                f"{names.get(label)}"
            )
        rows.append(Labelled(str(path), folder / "images" / path, label))
    labels = labels_of(rows)
    train, test = class_disjoint(labels)
    class_count = len({row.label for row in rows})
    check_counts(
        "cub200", place, EXPECTED, train=len(train), test=len(test), classes=class_count, how=HOW
    )
    return Listing("cub200", place, layout, tuple(rows), names, train, test, "class-disjoint")


def _table(path: Path) -> dict[int, str]:
    """Lines of a number and a word."""
    table: dict[int, str] = {}
    for line in read_text(path).splitlines():
        number, _, word = line.strip().partition(" ")
        if not _is_number(number) or not word or int(number) in table:
            raise DataError(f"{path} must hold lines of a new number and a word, got {line[:80]!r}")
        table[int(number)] = word
    return table


def _number(word: str, folder: Path) -> int:
    if not _is_number(word):
        raise DataError(
            f"{folder / 'image_class_labels.txt'} must hold class numbers, got {word[:80]!r}"
        )
    return int(word)


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) < 10  # Python refuses to read thousands of digits
