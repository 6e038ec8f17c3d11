"""16,185 photographs of 196 kinds of cars (Krause et al. 2013): Stanford Cars, class-disjoint, in any of three layouts."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from lossgauge.data.annotated_images import (
    AnnotatedImages,
    LabelledImage,
    check_counts,
    image_set,
    labels_of,
    read_text,
)
from lossgauge.data.archives import find_within, unpack
from lossgauge.data.dataset import Counts, Dataset, HubCopy, Outline
from lossgauge.data.locations import NotFound, is_hidden, not_found, places, regular
from lossgauge.data.splits import class_disjoint
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

FOLDERS = ("cars196", "stanford_cars")
ARCHIVE = "stanford-car-dataset-by-classes-folder.zip"

Names = dict[int, str]
Part = Callable[[str], Path]


class Layout(NamedTuple):
    """One way the dataset is stored: its parts with the paths each may have, and the function that reads the rows."""

    name: str
    parts: dict[str, tuple[str, ...]]
    read: Callable[[Part], tuple[list[LabelledImage], Names]]


class Cars196(Dataset):
    """Classes 1 to 98 are for training, 99 to 196 for testing. Rows are in the order of the file names.

    Of several layouts in one folder the first of `LAYOUTS` is read, and the source says so.
    """

    name = "cars196"
    expected = Counts(train=8_054, test=8_131, classes=196)
    protocol = "class-disjoint"
    how_to_get = (
        "put car_ims.tgz and cars_annos.mat, or cars_train, cars_test, devkit and "
        "cars_test_annos_withlabels.mat, or Kaggle's stanford-car-dataset-by-classes-folder into a folder and "
        "set LOSSGAUGE_CARS196 to that folder, or fetch it from the Hugging Face hub with --download"
    )
    license = "non-commercial research only"
    hub = HubCopy(
        "tanganke/stanford_cars", "9abf6cf7d6dfa7b95152a0d6e791ea9435b47a40", first_class=1
    )

    def find(self, root: Path | None = None) -> Path:
        traces = []
        for place in places(root, *FOLDERS):
            if _complete_layouts(place):
                return place
            for archive in (place, place / ARCHIVE):
                if archive.is_file():
                    return archive
            if root is not None or place.name in FOLDERS:
                traces += list(_traces(place))
        if traces:
            raise NotFound(f"cars196 is not complete: {'; '.join(traces)}: {self.how_to_get}")
        raise not_found(self, root)

    def outline(self, root: Path | None = None) -> Outline:
        place = self.find(root)
        if place.is_file():
            return self.complete_outline(place, "archive")
        layout = _complete_layouts(place)[0]
        if any(path.suffix == ".tgz" for path in _parts(place, layout).values()):
            return self.complete_outline(place, f"{_layout_names(place)}, packed")
        return self._images(place, place).outline()

    def load(self, root: Path | None = None) -> ImageSet:
        place = self.find(root)
        folder = find_within(place, self.find) if place.is_file() else place
        return image_set(self._images(folder, place))

    def _images(self, folder: Path, place: Path) -> AnnotatedImages:
        rows, names = _read_layout(folder, _complete_layouts(folder)[0])
        twice = next((a.id for a, b in pairwise(rows) if a.id == b.id), None)
        if twice is not None:
            raise DataError(f"the tables of cars196 in {place} list {twice} twice")
        labels = labels_of(rows)
        train, test = class_disjoint(labels)
        classes = np.unique(labels).tolist()
        check_counts(self, place, train=len(train), test=len(test), classes=len(classes))
        names = {label: names.get(label, f"class {label}") for label in classes}
        return AnnotatedImages(self, place, _layout_names(folder), tuple(rows), names, train, test)


def _read_layout(folder: Path, layout: Layout) -> tuple[list[LabelledImage], Names]:
    """The rows in the order of their ids, and the names of the classes."""
    paths = _parts(folder, layout)
    first = {part: names[0] for part, names in layout.parts.items()}

    def part(name: str) -> Path:
        path = paths[name]
        return unpack(path) / first[name] if path.suffix == ".tgz" else path

    rows, names = layout.read(part)
    return sorted(rows), names


def _complete_layouts(place: Path) -> list[Layout]:
    return [layout for layout in LAYOUTS if len(_parts(place, layout)) == len(layout.parts)]


def _parts(place: Path, layout: Layout) -> dict[str, Path]:
    existing = {}
    for part, names in layout.parts.items():
        path = next((place / name for name in names if (place / name).exists()), None)
        if path is not None:
            existing[part] = path
    return existing


def _layout_names(place: Path) -> str:
    taken, *others = [layout.name for layout in _complete_layouts(place)]
    return f"{taken}; also there but not read: {', '.join(others)}" if others else taken


def _traces(place: Path) -> Iterator[str]:
    for layout in LAYOUTS:
        existing = _parts(place, layout)
        if existing:
            missing = [part for part in layout.parts if part not in existing]
            yield f"{min(existing.values())} is there, but not {' and '.join(missing)}"


def _old(part: Part) -> tuple[list[LabelledImage], Names]:
    folder, content = _images(part("the images")), _mat(part("cars_annos.mat"))
    rows = []
    for path, label in _annotations(content, part("cars_annos.mat"), "relative_im_path"):
        name = PurePosixPath(path).name
        rows.append(LabelledImage(f"car_ims/{name}", folder / name, label))
    return rows, _class_names(content)


def _new(part: Part) -> tuple[list[LabelledImage], Names]:
    rows = []
    for side in ("train", "test"):
        folder, table = (
            _images(part(f"the {side} images")),
            part(f"the labels of the {side} images"),
        )
        for path, label in _annotations(_mat(table), table, "fname"):
            name = PurePosixPath(path).name
            rows.append(LabelledImage(f"{side}/{name}", folder / name, label))
    names = part("the labels of the train images").with_name("cars_meta.mat")
    return rows, _class_names(_mat(names)) if names.is_file() else {}


def _kaggle(part: Part) -> tuple[list[LabelledImage], Names]:
    """One folder per class. The class comes from the table: a folder's name has lost its slash."""
    images = _images(part("the images"))
    rows = []
    for side in ("train", "test"):
        where = {
            name: Path(folder) / name
            for folder, _, names in os.walk(images / side)
            for name in names
            if not is_hidden(name)
        }
        table = part(f"anno_{side}.csv")
        for line in _lines(table):
            name = PurePosixPath(line[0]).name
            label = _official(line[-1], table)
            rows.append(
                LabelledImage(f"{side}/{name}", where.get(name, images / side / name), label)
            )
    return rows, {n: line[0] for n, line in enumerate(_lines(part("names.csv")), 1)}


def _lines(table: Path) -> list[list[str]]:
    try:
        return [line for line in csv.reader(read_text(table).splitlines()) if line]
    except csv.Error as error:
        raise DataError(f"{table} cannot be read: {error}") from None


def _images(folder: Path) -> Path:
    # Kaggle packs a folder of that name into itself
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def _mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(regular(path), squeeze_me=True)
    except DataError:
        raise
    except Exception as error:  # it may raise anything for damaged bytes
        raise DataError(f"{path} cannot be read as a .mat file: {error}") from None
    return content


def _annotations(content: dict[str, Any], path: Path, name: str) -> Iterator[tuple[str, int]]:
    table = np.atleast_1d(content.get("annotations", np.empty(0)))
    missing = {name, "class"} - set(table.dtype.names or ())
    if missing:
        raise DataError(
            f"{path} must contain annotations with {name} and class, but has no {min(missing)}"
        )
    for file, label in zip(table[name], table["class"], strict=True):
        yield str(file), _official(label, path)


def _official(label: Any, table: Path) -> int:
    digits = str(label).strip()
    if (
        not digits.isdecimal()
        or len(digits) > 9
        or not 1 <= int(digits) <= Cars196.expected.classes
    ):
        raise DataError(
            f"{table} must contain classes from 1 to {Cars196.expected.classes}, got {digits[:40]!r}"
        )
    return int(digits)


def _class_names(content: dict[str, Any]) -> Names:
    names = np.atleast_1d(content.get("class_names", np.empty(0)))
    return {number: str(name) for number, name in enumerate(names, 1)}


_DEVKIT = "car_devkit.tgz"
LAYOUTS = (
    Layout(
        "car_ims and cars_annos.mat",
        {"the images": ("car_ims", "car_ims.tgz"), "cars_annos.mat": ("cars_annos.mat",)},
        _old,
    ),
    Layout(
        "cars_train, cars_test and devkit",
        {
            "the train images": ("cars_train", "cars_train.tgz"),
            "the test images": ("cars_test", "cars_test.tgz"),
            "the labels of the train images": (
                "devkit/cars_train_annos.mat",
                "car_devkit/devkit/cars_train_annos.mat",
                "cars_train_annos.mat",
                _DEVKIT,
            ),
            "the labels of the test images": (
                "devkit/cars_test_annos_withlabels.mat",
                "car_devkit/devkit/cars_test_annos_withlabels.mat",
                "cars_test_annos_withlabels.mat",
            ),
        },
        _new,
    ),
    Layout(
        "Kaggle's car_data",
        {
            "the images": ("car_data",),
            "anno_train.csv": ("anno_train.csv",),
            "anno_test.csv": ("anno_test.csv",),
            "names.csv": ("names.csv",),
        },
        _kaggle,
    ),
)


DATASET = Cars196()
