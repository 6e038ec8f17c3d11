"""Stanford Cars with its own split into training and test images: a closed set, where every class is on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lossgauge.data import cars196
from lossgauge.data.annotated_images import check_counts
from lossgauge.data.dataset import Counts, Dataset, Outline
from lossgauge.errors import DataError
from lossgauge.types import ImageSet


class Cars196Official(Dataset):
    """The same images as `cars196`, from the same files; the sides are those of the folders `train` and `test`."""

    name = "cars196-official"
    copy_of = "cars196"
    expected = Counts(train=8_144, test=8_041, classes=196)
    protocol = "official"
    how_to_get = "it is read from the copy of cars196, in a layout with cars_train and cars_test, or Kaggle's"
    license = cars196.Cars196.license

    def find(self, root: Path | None = None) -> Path:
        return cars196.DATASET.find(root)

    def outline(self, root: Path | None = None) -> Outline:
        inside = cars196.DATASET.outline(root)
        return self.complete_outline(inside.place, inside.layout)

    def load(self, root: Path | None = None) -> ImageSet:
        images = cars196.DATASET.load(root)
        sides = np.array([name.partition("/")[0] for name in images.ids])
        if not np.isin(sides, ("train", "test")).all():
            raise DataError(
                f"the files of cars196 in {images.source} do not say which images are for training: use the layout "
                "with cars_train and cars_test, or Kaggle's"
            )
        train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
        classes = len(np.unique(images.labels))
        check_counts(self, self.find(root), train=len(train), test=len(test), classes=classes)
        return replace(images, name=self.name, train=train, test=test, protocol=self.protocol)


DATASET = Cars196Official()
