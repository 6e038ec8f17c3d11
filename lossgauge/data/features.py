"""Features of a dataset: from the cache, or extracted now, shard after shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.data.cache import SHARD_BYTES, Draft, default_cache, drafting, key_of, read_entry
from lossgauge.data.extraction import Extracted
from lossgauge.data.extraction_jobs import extract_rows
from lossgauge.data.groups import group_numbers
from lossgauge.data.locations import first_few
from lossgauge.data.pair_splits import fingerprint_of_pairs
from lossgauge.data.splits import check_sides, fingerprint
from lossgauge.errors import DataError, InputError
from lossgauge.types import IMAGES, TEXTS, Backbone, FeatureSet, ImageSet, Item

SKIPPED_COUNT, SKIPPED_SHARE = 10, 0.01
"""A dataset is refused if more images than this count *and* this share cannot be read: our choice."""


def features(
    images: ImageSet,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    refresh: bool = False,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """Features of all images, from the cache, or extracted now and then cached.

    `cache` is `default_cache()` if not given. At most `jobs` processes extract at a time, each on one thread; None is
    one for each core. The features do not depend on it. `progress` gets (done, total) while images are extracted. An
    extraction that was stopped or killed continues after its last complete shard.
    An image that cannot be read is left out of the rows and of the split, and `notes` names it. Raises DataError
    if these are more than `SKIPPED_SHARE` of the images and more than `SKIPPED_COUNT`, or if a side becomes too small
    to be measured; CacheError if the cached bytes have changed since they were written. During extraction, memory
    holds one shard and some batches of images in each process, for any size of the dataset.
    """
    identity = identity_of(images, backbone)
    entry = (cache or default_cache()) / key_of(identity)
    if refresh or not entry.is_dir():
        with drafting(entry, refresh=refresh) as draft:
            if draft is not None:
                _extract_into(draft, images, backbone, jobs, progress)
                draft.publish(entry, identity)
    rows, skipped = read_entry(entry, identity)
    return feature_set(images, backbone, rows, skipped)


def is_cached(images: ImageSet, backbone: Backbone, *, cache: Path | None = None) -> bool:
    """Whether all rows are in the cache, so that `features` extracts nothing."""
    return ((cache or default_cache()) / key_of(identity_of(images, backbone))).is_dir()


def centered(of: FeatureSet) -> FeatureSet:
    """The same features minus the mean of the training rows.

    Features after a ReLU share one large direction. With a linear head, this direction puts all embeddings into a
    narrow cone, and training has to leave this cone first: variance then grows before it falls.
    """
    mean = of.features[of.train].double().mean(dim=0).to(of.features.dtype)
    return of._replace(
        features=of.features - mean, identity={**of.identity, "centered": "training mean"}
    )


def identity_of(images: ImageSet, backbone: Backbone) -> dict[str, str]:
    """All that the features depend on. Raises InputError for texts and a backbone for images, or the reverse."""
    check_kind(images, backbone)
    return {
        "format": "3",
        "dataset": images.name,
        images.kind: images.digest,
        "backbone": backbone.name,
        **backbone.identity,
        **({"pillow": version("pillow")} if images.kind == IMAGES else {}),
        "torch": version("torch"),
    }


def check_kind(images: ImageSet, backbone: Backbone) -> None:
    """InputError if a backbone for images gets texts, or the reverse."""
    takes = getattr(backbone, "takes", IMAGES)
    if takes != images.kind:
        fix = "minilm-l6 or hf:MODEL" if images.kind == TEXTS else "efficientnet-lite0 or hf:MODEL"
        raise InputError(
            f"{images.name} has {images.kind}, and the backbone {backbone.name} takes {takes}: use one for {images.kind}, "
            f"such as {fix}"
        )


def _extract_into(
    draft: Draft,
    images: ImageSet,
    backbone: Backbone,
    jobs: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Extract from the next image of the draft, and add a shard whenever enough rows are ready."""
    batches = extract_rows(images, backbone, first=draft.next_image, jobs=jobs)
    with closing(batches):  # ends the processes, also after an interrupt
        _add_shards(draft, images, batches, progress)
    if not any(shard.rows for shard in draft.shards):
        skipped = [row for shard in draft.shards for row in shard.skipped]
        raise DataError(
            f"none of the {len(images.ids)} images of {images.name} could be read: {_some(images, skipped)}"
        )


def _add_shards(
    draft: Draft,
    images: ImageSet,
    batches: Iterable[Extracted],
    progress: Callable[[int, int], None] | None,
) -> None:
    total = len(images.ids)
    blocks: list[Tensor] = []
    waiting: list[int] = []
    skipped = [row for shard in draft.shards for row in shard.skipped]
    size = 0
    for batch in batches:
        waiting += batch.skipped
        skipped += batch.skipped
        if is_stopped(len(skipped), total):
            raise DataError(
                f"{images.name} cannot be used: more than {SKIPPED_COUNT} of its images and more than {SKIPPED_SHARE:.0%} "
                f"of the {total:,} cannot be read: {_some(images, skipped)} "
                f"({next(iter(batch.skipped.values()))}); repair or remove them"
            )
        if len(batch.rows):
            blocks.append(batch.rows)
            size += batch.rows.nbytes
        if size >= SHARD_BYTES or (batch.next_image == total and (blocks or waiting)):
            rows = torch.cat(blocks) if blocks else torch.empty(0, 0)
            draft.add(rows, next_image=batch.next_image, skipped=waiting)
            blocks, waiting, size = [], [], 0
        if progress is not None:
            progress(batch.next_image, total)


def is_stopped(skipped: float, total: int) -> bool:
    """Whether a dataset is refused if this number of its images cannot be read."""
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
    """The feature set of all images except the skipped ones, which have no rows."""
    identity = identity_of(images, backbone)
    kept = np.setdiff1d(np.arange(len(images.ids)), skipped)
    if len(kept) != len(rows):
        raise DataError(
            f"the cache has {len(rows)} rows for {len(kept)} images of {images.name}; extract with --refresh"
        )
    train, test = (
        np.searchsorted(kept, side[np.isin(side, kept)]) for side in (images.train, images.test)
    )
    labels = images.labels[kept]
    notes = images.notes + cut_note(images, backbone)
    if skipped and images.pairs is not None:
        raise DataError(
            f"{_some(images, skipped)} of {images.name} cannot be prepared: a query or document must not be left out"
        )
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
        fingerprint=fingerprint_of(images, kept),
        identity=record,
        class_names=images.class_names,
        notes=notes,
        groups=group_numbers(None if images.groups is None else images.groups[kept]),
        pairs=images.pairs,
    )


CUT_SAMPLE = 2_000
"""Texts of which it is counted whether the model cuts them; of more texts, an evenly spaced part. Our choice."""


def cut_note(images: ImageSet, backbone: Backbone) -> tuple[str, ...]:
    """A note on the share of texts that are longer than the model takes; empty if it cuts none, or does not say."""
    is_cut: Callable[[Item], bool] | None = getattr(backbone, "is_cut", None)
    count = len(images.ids)
    if images.kind != TEXTS or is_cut is None or not count:
        return ()
    rows = np.unique(np.linspace(0, count - 1, min(count, CUT_SAMPLE)).astype(int))
    cut = sum(is_cut(images.read(int(row))) for row in rows)
    if not cut:
        return ()
    about = "" if len(rows) == count else f" (of {len(rows):,} that were counted)"
    return (
        f"{cut / len(rows):.1%} of the texts{about} are longer than {backbone.name} takes, {backbone.identity.get('max_length')} "
        "tokens: the rest of each is cut off",
    )


def fingerprint_of(images: ImageSet, kept: Int[np.ndarray, " kept"] | None = None) -> str:
    """The fingerprint of the split of the items that have features; all by default."""
    if images.pairs is not None:
        return fingerprint_of_pairs(images.ids, images.pairs, images.train, images.test)
    if kept is None:
        kept = np.arange(len(images.ids))
    train, test = (np.searchsorted(kept, s[np.isin(s, kept)]) for s in (images.train, images.test))
    return fingerprint([images.ids[row] for row in kept], images.labels[kept], train, test)
