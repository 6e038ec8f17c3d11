"""Features of a dataset: from the cache, or extracted now: decoded by workers, shard after shard."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lossgauge.data.cache import SHARD_BYTES, Draft, default_cache, drafting, key_of, read_entry
from lossgauge.data.locations import Unreachable, first_few
from lossgauge.data.splits import check_sides, fingerprint
from lossgauge.errors import DataError
from lossgauge.types import Backbone, FeatureSet, ImageSet

BATCH = 32
"""Images that go through the network at a time: few enough for its activations to stay near the cores."""

SKIPPED_COUNT, SKIPPED_SHARE = 10, 0.01
"""A dataset is stopped where more images than this count *and* this share cannot be read: our choice."""

_ROWS_A_JOB = 8


class Extracted(NamedTuple):
    """Features of a run of consecutive images."""

    rows: Float[Tensor, "rows width"]
    next_image: int
    skipped: dict[int, str]
    """Numbers of images that could not be read, with why."""


def features(
    images: ImageSet,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    refresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """Features of all images, from the cache where it has them, else extracted and put there.

    `cache` is `default_cache()` if not given. `progress` gets (done, total) while
    images are extracted. An extraction that was stopped, by a kill too, goes on from its last whole shard.
    An image that cannot be read is left out of the rows and of the split, and `notes` names it. Raises DataError
    where that is more than `SKIPPED_SHARE` of the images and more than `SKIPPED_COUNT`, or leaves a side too small
    to be measured; CacheError where the cached bytes are not those that were written. While extracting, memory
    holds a shard and some batches of images, whatever the dataset's size.
    """
    identity = identity_of(images, backbone)
    entry = (cache or default_cache()) / key_of(identity)
    if refresh or not entry.is_dir():
        with drafting(entry, anew=refresh) as draft:
            if draft is not None:
                _extract_into(draft, images, backbone, progress)
                draft.publish(entry, identity)
    rows, skipped = read_entry(entry, identity)
    return feature_set(images, backbone, rows, skipped)


def is_cached(images: ImageSet, backbone: Backbone, *, cache: Path | None = None) -> bool:
    """Whether `features` would find all rows, so that nothing has to be extracted."""
    return ((cache or default_cache()) / key_of(identity_of(images, backbone))).is_dir()


def centered(of: FeatureSet) -> FeatureSet:
    """The same features less the mean of the training rows.

    Features after a ReLU share one large direction. Through a linear head it puts all embeddings into a
    narrow cone, where training first has to undo it; variance then grows before it can be seen to fall.
    """
    mean = of.features[of.train].double().mean(dim=0).to(of.features.dtype)
    return of._replace(
        features=of.features - mean, identity={**of.identity, "centered": "training mean"}
    )


def extract_rows(images: ImageSet, backbone: Backbone, *, first: int = 0) -> Iterator[Extracted]:
    """Features of the images from number `first` on, batch after batch; what cannot be read has no row.

    Workers decode the next two batches while the network is at work on one.
    """
    total, size = len(images.ids), None

    def prepare(start: int, end: int) -> list[Tensor | DataError]:
        prepared: list[Tensor | DataError] = []
        for row in range(start, end):
            try:
                prepared.append(backbone.prepare(images.read(row)))
            except Unreachable:
                raise
            except DataError as error:
                prepared.append(error)
        return prepared

    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        ahead: deque[list[Future[list[Tensor | DataError]]]] = deque()
        waiting = iter(range(first, total, BATCH))
        try:
            for start in range(first, total, BATCH):
                while len(ahead) < 3 and (later := next(waiting, None)) is not None:
                    end = min(later + BATCH, total)
                    parts = range(later, end, _ROWS_A_JOB)
                    ahead.append(
                        [pool.submit(prepare, p, min(p + _ROWS_A_JOB, end)) for p in parts]
                    )
                batch: list[Tensor] = []
                skipped: dict[int, str] = {}
                images_of_batch = chain.from_iterable(job.result() for job in ahead.popleft())
                for row, image in enumerate(images_of_batch, start):
                    if isinstance(image, DataError):
                        skipped[row] = str(image)
                        continue
                    size = image.shape if size is None else size
                    if image.shape != size:
                        raise DataError(
                            f"{backbone.name} needs images of one size, got {tuple(size)} and, for "
                            f"{images.ids[row]} of {images.name}, {tuple(image.shape)}"
                        )
                    batch.append(image)
                found = backbone.extract(torch.stack(batch)).clone() if batch else torch.empty(0, 0)
                yield Extracted(found, min(start + BATCH, total), skipped)
        finally:
            for jobs in ahead:
                for job in jobs:
                    job.cancel()


def identity_of(images: ImageSet, backbone: Backbone) -> dict[str, str]:
    """All that the features depend on."""
    return {
        "format": "3",
        "dataset": images.name,
        "images": images.digest,
        "backbone": backbone.name,
        **backbone.identity,
        "pillow": version("pillow"),
        "torch": version("torch"),
    }


def _extract_into(
    draft: Draft,
    images: ImageSet,
    backbone: Backbone,
    progress: Callable[[int, int], None] | None,
) -> None:
    total = len(images.ids)
    blocks: list[Tensor] = []
    waiting: list[int] = []
    skipped = [row for shard in draft.shards for row in shard.skipped]
    size = 0
    for found in extract_rows(images, backbone, first=draft.next_image):
        waiting += found.skipped
        skipped += found.skipped
        if is_stopped(len(skipped), total):
            raise DataError(
                f"{images.name} is stopped: more than {SKIPPED_COUNT} of its images and more than {SKIPPED_SHARE:.0%} "
                f"of the {total:,} cannot be read, {_some(images, skipped)} among them "
                f"({next(iter(found.skipped.values()))}): repair them, or take them away"
            )
        if len(found.rows):
            blocks.append(found.rows)
            size += found.rows.nbytes
        if size >= SHARD_BYTES or (found.next_image == total and (blocks or waiting)):
            rows = torch.cat(blocks) if blocks else torch.empty(0, 0)
            draft.add(rows, next_image=found.next_image, skipped=waiting)
            blocks, waiting, size = [], [], 0
        if progress is not None:
            progress(found.next_image, total)
    if not any(shard.rows for shard in draft.shards):
        raise DataError(
            f"none of the {total} images of {images.name} could be read, {_some(images, skipped)} among them"
        )


def is_stopped(skipped: float, total: int) -> bool:
    """Whether a dataset is stopped where so many of its images cannot be read."""
    return skipped > max(SKIPPED_COUNT, SKIPPED_SHARE * total)


def _some(images: ImageSet, rows: Sequence[int]) -> str:
    """The first few images by their ids."""
    return first_few([images.ids[row] for row in rows])


def feature_set(
    images: ImageSet,
    backbone: Backbone,
    rows: Float[Tensor, "rows width"],
    skipped: Sequence[int] = (),
) -> FeatureSet:
    """The feature set of all images but the skipped ones, whose rows do not exist."""
    identity = identity_of(images, backbone)
    kept = np.setdiff1d(np.arange(len(images.ids)), skipped)
    if len(kept) != len(rows):
        raise DataError(
            f"the cache holds {len(rows)} rows for {len(kept)} images of {images.name}; extract with --refresh"
        )
    train, test = (
        np.searchsorted(kept, side[np.isin(side, kept)]) for side in (images.train, images.test)
    )
    ids, labels = [images.ids[row] for row in kept], images.labels[kept]
    notes = images.notes
    if skipped:
        check_sides(labels, (train, test), source=f"{images.name} without its unreadable images")
        notes += (
            f"left out because they cannot be read ({len(skipped):,} of {len(images.ids):,}): "
            f"{_some(images, skipped)}",
        )
    record = {**identity, "skipped": str(len(skipped))} if skipped else identity
    return FeatureSet(
        dataset=images.name,
        backbone=backbone.name,
        features=rows,
        labels=torch.from_numpy(labels),
        train=torch.from_numpy(train),
        test=torch.from_numpy(test),
        protocol=images.protocol,
        fingerprint=fingerprint(ids, labels, train, test),
        identity=record,
        class_names=images.class_names,
        notes=notes,
    )
