"""A class-balanced sample of a dataset: fewer rows on both sides of the split, the same number of each class.

A smaller sample of a dataset is a part of a larger one.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import torch
from jaxtyping import Int

from lossgauge.types import FeatureSet, ImageSet

ROWS_PER_CLASS = 4
"""So many rows of a class stay on a side, if it has them; if the sample is too small for that, it has fewer classes. A
validation slice needs as many. Our choice."""

_SEED = 0


def balanced_rows(
    labels: Int[np.ndarray, " rows"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    count: int,
) -> Int[np.ndarray, " sample"]:
    """About `count` rows of both sides together, ascending; all of them if there are no more.

    Each side keeps its share. On a side, all classes have equally many rows, except those with fewer. Classes are left out
    only if the others would have less than `ROWS_PER_CLASS` rows; both sides then leave out the same, where they share
    classes. At least two classes stay on each side.
    """
    total = len(train) + len(test)
    if count >= total:
        return np.sort(np.concatenate((train, test)))
    classes = np.random.default_rng(_SEED).permutation(np.unique(labels))
    chosen = [
        _of_side(labels, side, classes, round(count * len(side) / total)) for side in (train, test)
    ]
    return np.sort(np.concatenate(chosen))


def _of_side(
    labels: np.ndarray, side: np.ndarray, classes: np.ndarray, count: int
) -> Int[np.ndarray, " chosen"]:
    generator = np.random.default_rng(_SEED)
    members = [generator.permutation(side[labels[side] == label]) for label in classes]
    members = [rows for rows in members if len(rows)]
    sizes = np.array([len(rows) for rows in members])
    kept = np.minimum(sizes, ROWS_PER_CLASS).cumsum()
    if kept[-1] > count:
        members = members[: max(2, int(np.searchsorted(kept, count, side="right")))]
        return np.concatenate([rows[:ROWS_PER_CLASS] for rows in members])
    level = max(
        each
        for each in range(ROWS_PER_CLASS, sizes.max() + 1)
        if np.minimum(sizes, each).sum() <= count
    )
    return np.concatenate([rows[:level] for rows in members])


def sampled_images(images: ImageSet, count: int) -> ImageSet:
    """A class-balanced sample of images, with a note that says so; the same images if there are no more.

    Of pairs, fewer queries of each side: all documents stay, because numbers of another corpus cannot be compared.
    """
    if images.pairs is not None:
        train, test = sampled_queries(images.train, images.test, count)
        if len(train) + len(test) == len(images.train) + len(images.test):
            return images
        note = _note_of_queries(train, test, images.train, images.test)
        return dataclasses.replace(images, train=train, test=test, notes=(*images.notes, note))
    chosen = balanced_rows(images.labels, images.train, images.test, count)
    if len(chosen) == len(images.ids):
        return images
    words = hashlib.sha256(f"{images.digest} {chosen.tolist()}".encode()).hexdigest()
    return dataclasses.replace(
        images,
        ids=tuple(images.ids[row] for row in chosen),
        labels=images.labels[chosen],
        train=np.flatnonzero(np.isin(chosen, images.train)),
        test=np.flatnonzero(np.isin(chosen, images.test)),
        digest=words,
        read=lambda row: images.read(int(chosen[row])),
        notes=(*images.notes, _note(len(chosen), len(images.ids))),
        groups=None if images.groups is None else images.groups[chosen],
    )


def sampled_features(features: FeatureSet, count: int) -> FeatureSet:
    """The same for rows that have features already."""
    train, test, labels = (t.numpy() for t in (features.train, features.test, features.labels))
    if features.pairs is not None:
        fewer = sampled_queries(train, test, count)
        if len(fewer[0]) + len(fewer[1]) == len(train) + len(test):
            return features
        words = f"{features.fingerprint} {[side.tolist() for side in fewer]}"
        return features._replace(
            train=torch.from_numpy(fewer[0]),
            test=torch.from_numpy(fewer[1]),
            fingerprint=hashlib.sha256(words.encode()).hexdigest(),
            notes=(*features.notes, _note_of_queries(*fewer, train, test)),
        )
    chosen = balanced_rows(labels, train, test, count)
    if len(chosen) == len(labels):
        return features
    rows = torch.from_numpy(chosen)
    words = hashlib.sha256(f"{features.fingerprint} {chosen.tolist()}".encode()).hexdigest()
    return features._replace(
        features=features.features[rows],
        labels=features.labels[rows],
        train=torch.from_numpy(np.flatnonzero(np.isin(chosen, train))),
        test=torch.from_numpy(np.flatnonzero(np.isin(chosen, test))),
        fingerprint=words,
        notes=(*features.notes, _note(len(chosen), len(labels))),
        groups=None if features.groups is None else features.groups[rows],
    )


def sampled_queries(
    train: Int[np.ndarray, " train"], test: Int[np.ndarray, " test"], count: int
) -> tuple[Int[np.ndarray, " fewer"], Int[np.ndarray, " fewer"]]:
    """About `count` queries of both sides together, ascending; each side keeps its share, and at least two."""
    total = len(train) + len(test)
    if count >= total:
        return train, test
    generator = np.random.default_rng(_SEED)
    one, other = (
        np.sort(generator.permutation(side)[: max(2, round(count * len(side) / total))])
        for side in (train, test)
    )
    return one, other


def _note_of_queries(*sides: np.ndarray) -> str:
    one, other, train, test = map(len, sides)
    return f"a sample: {one + other:,} of its {train + test:,} queries, and all documents"


def _note(count: int, of: int) -> str:
    return f"a class-balanced sample: {count:,} of its {of:,} rows"
