"""Which rows train and which test, and the fingerprint that tells two splits apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


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
    """The first half of each class's rows, and the second; the odd row tests."""
    train: list[np.ndarray] = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        train.append(rows[: len(rows) // 2])
    chosen = np.sort(np.concatenate(train))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


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
