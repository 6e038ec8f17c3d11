"""The id and, of images, the picture of a row of a feature set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image

from lossgauge.data import EMBEDDINGS
from lossgauge.data.cache import default_cache, key_of, read_entry
from lossgauge.data.embedding_shards import read_shards
from lossgauge.data.features import identity_of
from lossgauge.plan.study import Plan
from lossgauge.study.schedule.run_config import source_of
from lossgauge.types import TEXTS, Backbone, FeatureSet, ImageSet

MOST_BYTES = 4 << 30
"""Larger embeddings are not read a second time for their ids; the numbers of their rows are shown."""


class ImageRows(NamedTuple):
    """The rows of an image set whose features were extracted by a backbone."""

    images: ImageSet
    backbone: Backbone

    def image_numbers(self, features: FeatureSet) -> np.ndarray:
        """The image of each row: an image that could not be read has no row."""
        count = len(self.images.ids)
        if len(features.features) == count:
            return np.arange(count)
        identity = identity_of(self.images, self.backbone)
        _, skipped = read_entry(default_cache() / key_of(identity), identity)
        return np.setdiff1d(np.arange(count), skipped)


class RowSource(NamedTuple):
    """Ids and pictures of the rows of one dataset."""

    id_of: Callable[[int], str]
    """The name of a row: of an image its id, else the one in the file of embeddings, else the row number."""
    picture: Callable[[int], Image] | None
    """The image of a row; raises DataError if it cannot be read now. None if the rows are no images."""
    words: Callable[[int], str] | None = None
    """The text of a row. None if the rows are no texts, or only their vectors are known."""


def row_source(plan: Plan, features: FeatureSet, images: ImageRows | None) -> RowSource:
    """The source of the rows of a feature set, which has `images` unless it is made of embeddings."""
    if images is None:
        ids = _given_ids(plan, features)
        return RowSource(str if ids is None else ids.__getitem__, None)
    of, numbers = images.images, images.image_numbers(features)

    def id_of(row: int) -> str:
        return of.ids[int(numbers[row])]

    def item(row: int) -> Any:
        return of.read(int(numbers[row]))

    if of.kind == TEXTS:
        return RowSource(id_of, None, lambda row: item(row).words)
    return RowSource(id_of, item)


def _given_ids(plan: Plan, features: FeatureSet) -> list[str] | None:
    """The ids in a file of embeddings; None without them."""
    source = source_of(features.dataset, features.labelled)
    for name in plan.datasets:
        path = Path(name.removeprefix(EMBEDDINGS))
        titles = (f"embeddings:{path.name}", f"embeddings:{path.resolve().name}")
        if not name.startswith(EMBEDDINGS) or source not in titles:
            continue
        if features.features.nbytes > MOST_BYTES:
            return None
        shards = read_shards(path, plan.embeddings_name, plan.labels_name, mapped=True)
        if any(shard.ids is None for shard in shards):
            return None
        ids = [str(entry) for shard in shards for entry in np.asarray(shard.ids).tolist()]
        return ids if len(ids) == len(features.features) else None
    return None
