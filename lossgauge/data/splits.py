"""The split into training and test rows, and its fingerprint, which differs between splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from lossgauge.data.groups import check_groups, held_rows
from lossgauge.errors import DataError, InputError, nearest

SPLITS = ("given", "class-disjoint", "stratified")
DISJOINT_CLASSES = 20
"""With this many classes or more, data without its own split is split class-disjoint: ten classes for training and
ten unseen classes for testing are already few. Our choice."""


class Split(NamedTuple):
    """The row numbers of both sides, ascending, and the name of the split method."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    protocol: str


def choose_split(
    labels: Int[np.ndarray, " rows"],
    trains: Bool[np.ndarray, " rows"] | None,
    *,
    split: str | None,
    seed: int,
    source: str,
    groups: np.ndarray | None = None,
) -> Split:
    """The split with the name `split`, one of SPLITS; the rows may have their own split, or none (None).

    Without a name: `given` if the rows have a split, else `class-disjoint` with DISJOINT_CLASSES classes or more, else
    `stratified`. `seed` has an effect only with `stratified`. With `groups`, one for each row, all rows of a
    group are on one side: `stratified` then takes about half of each class. Raises InputError for an unknown name,
    DataError if the rows have no split, a side is too small (it needs two classes, one of them with two samples), or a
    group is on both sides of a split that is not stratified.
    """
    if split is None:
        disjoint = len(np.unique(labels)) >= DISJOINT_CLASSES
        unsaid = "class-disjoint" if disjoint else "stratified"
        split = "given" if trains is not None else unsaid
    if split == "given":
        if trains is None:
            raise DataError(
                f"{source} gives no split: add a column `split` with train and test, "
                "or use split: class-disjoint or split: stratified"
            )
        sides = np.flatnonzero(trains), np.flatnonzero(~trains)
    elif split == "class-disjoint":
        sides = class_disjoint(labels)
    elif split == "stratified":
        sides = stratified(labels, seed, groups)
    else:
        raise InputError(f"unknown split {split!r}{nearest(split, SPLITS)}")
    if groups is not None:
        check_groups(
            groups,
            *sides,
            source=f"the {split} split of {source}",
            fix="use split: stratified, or correct or remove the column group",
        )
    check_sides(labels, sides, source=f"the {split} split of {source}")
    return Split(*sides, split)


MORE_DATA = "use another split, or more data"
"""The fix for a side that is too small, in a study."""


def check_sides(
    labels: Int[np.ndarray, " rows"],
    sides: tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]],
    *,
    source: str,
) -> None:
    """DataError unless both sides can be measured: they need two classes, one of them with two samples."""
    for side, rows in zip(("train", "test"), sides, strict=True):
        sizes = np.unique(labels[rows], return_counts=True)[1]
        if len(sizes) < 2 or sizes.max() < 2:
            ids = "; every label is there once: is it an id instead of a class?"
            raise DataError(
                f"each side of a split needs two classes, one of them with two samples, but {source} leaves "
                f"{len(rows)} samples of {len(sizes)} classes to {side}: {MORE_DATA}"
                f"{ids if len(np.unique(labels)) == len(labels) > 2 else ''}"
            )


def class_disjoint(
    labels: Int[np.ndarray, " rows"],
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Rows of the first half of the class ids, and of the second: test classes are never seen in training."""
    classes = np.unique(labels)
    trains = np.isin(labels, classes[: len(classes) // 2])
    return np.flatnonzero(trains), np.flatnonzero(~trains)


def halves(
    labels: Int[np.ndarray, " rows"],
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """The first half of the rows of each class, and the second; an odd row is for testing."""
    train: list[np.ndarray] = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        train.append(rows[: len(rows) // 2])
    chosen = np.sort(np.concatenate(train))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def stratified(
    labels: Int[np.ndarray, " rows"], seed: int, groups: np.ndarray | None = None
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Half of the rows of each class, chosen at random with `seed`, and the other half; an odd row is for testing.

    The result is the same for the same labels and seed; classes are processed in ascending order of their id. With
    `groups`, whole groups are chosen, so that each class has about half of its rows on each side.
    """
    generator = np.random.default_rng(seed)
    if groups is not None:
        halves_of = np.unique(labels, return_counts=True)[1] / 2
        trains = held_rows(labels, groups, wanted=halves_of, generator=generator)
        return np.flatnonzero(trains), np.flatnonzero(~trains)
    _, sizes = np.unique(labels, return_counts=True)
    classes = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    train = [generator.permutation(rows)[: len(rows) // 2] for rows in classes]
    chosen = np.sort(np.concatenate(train))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def validation_slice(
    labels: Int[np.ndarray, " rows"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    *,
    share: float,
    groups: np.ndarray | None = None,
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " validation"]]:
    """The training rows in two parts: those still used for training, and a validation slice. Ascending row numbers.

    The slice measures the same as the test. If no test class is in training, whole classes are held out: `share`
    of them, and at least two. Otherwise it is `share` of the rows of each class, but no rows of a class with fewer
    than four, which needs all its pairs. With `groups`, one for each row, all rows of a group are in one part. The rows
    depend only on labels and groups, not on the loss or the seed. Raises DataError if either part is too small: it needs
    two classes, one of them with two samples; and if whole classes are held out that share a group with others.
    """
    generator = np.random.default_rng(_SLICE_SEED)
    classes = np.unique(labels[train])
    if not np.isin(labels[test], classes).any():
        held = generator.permutation(classes)[: max(2, round(share * len(classes)))]
        validates = np.isin(labels[train], held)
    elif groups is not None:
        sizes = np.unique(labels[train], return_counts=True)[1]
        wanted = np.where(sizes >= 4, np.maximum(2, np.round(share * sizes)), 0)
        validates = held_rows(labels[train], groups[train], wanted=wanted, generator=generator)
    else:
        validates = np.zeros(len(train), dtype=bool)
        for label in classes:
            members = generator.permutation(np.flatnonzero(labels[train] == label))
            count = max(2, round(share * len(members))) if len(members) >= 4 else 0
            validates[members[:count]] = True
    parts = train[~validates], train[validates]
    if groups is not None:
        check_groups(
            groups,
            *parts,
            source="a validation slice of whole classes",
            fix="use selection: last without tune, or correct or remove the column group",
        )
    for name, rows in zip(("training", "validation"), parts, strict=True):
        sizes = np.unique(labels[rows], return_counts=True)[1]
        if len(sizes) < 2 or sizes.max() < 2:
            raise DataError(
                f"a validation slice of {share:g} of {len(train)} training samples of {len(classes)} classes leaves "
                f"{len(rows)} samples of {len(sizes)} classes for {name}, where two classes are needed, one of them with "
                "two samples: use another validation_share, selection: last without tune, or more data"
            )
    return parts


_SLICE_SEED = 0


def fingerprint(
    ids: Sequence[str],
    labels: Int[np.ndarray, " rows"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
) -> str:
    """SHA-256 over the sorted ids and labels of each side: the same for the same split in any order of rows."""
    digest = hashlib.sha256()
    for side, rows in (("train", train), ("test", test)):
        for entry in sorted(f"{ids[row]}\t{labels[row]}" for row in rows):
            digest.update(f"{side}\t{entry}\n".encode())
    return digest.hexdigest()
