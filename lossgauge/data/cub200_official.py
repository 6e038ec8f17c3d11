"""CUB-200-2011 with the split of its own `train_test_split.txt`: a closed set, where every class is on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lossgauge.data import cub200
from lossgauge.data.annotated_images import check_counts
from lossgauge.data.archives import find_within
from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.errors import DataError
from lossgauge.types import ImageSet

TABLE = "train_test_split.txt"


class CUB200Official(Dataset):
    """The same images as `cub200`, from the same folder or archive."""

    name = "cub200-official"
    copy_of = "cub200"
    expected = Counts(train=5_994, test=5_794, classes=200)
    protocol = "official"
    how_to_get = "it is read from the copy of cub200"
    license = cub200.CUB200.license

    def find(self, root: Path | None = None) -> Path:
        return cub200.DATASET.find(root)

    def outline(self, root: Path | None = None) -> Outline:
        inside = cub200.DATASET.outline(root)
        return self.complete_outline(inside.place, inside.layout)

    def load(self, root: Path | None = None) -> ImageSet:
        images = cub200.DATASET.load(root)
        place = self.find(root)
        folder = find_within(place, self.find) if place.is_file() else place
        is_train = _sides(folder, images.ids)
        train, test = np.flatnonzero(is_train), np.flatnonzero(~is_train)
        classes = len(np.unique(images.labels))
        check_counts(self, place, train=len(train), test=len(test), classes=classes)
        return replace(images, name=self.name, train=train, test=test, protocol=self.protocol)


def _sides(folder: Path, ids: tuple[str, ...]) -> np.ndarray:
    """Whether each image is for training."""
    numbers = {path: number for number, path in cub200.read_table(folder / "images.txt").items()}
    sides = cub200.read_table(folder / TABLE)
    marks = [sides.get(numbers[name]) for name in ids]
    for name, mark in zip(ids, marks, strict=True):
        if mark not in ("0", "1"):
            raise DataError(
                f"{folder / TABLE} must give 1 (training) or 0 (test) for each image, got {mark} for {name}"
            )
    return np.array([mark == "1" for mark in marks])


DATASET = CUB200Official()
