"""A map of the same rows under several heads: principal components (Pearson 1901), turned to fit each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from scipy.linalg import eigh

MOST_ROWS, MOST_EPOCHS = 600, 8
"""Of a map: a browser still draws eight of them without delay."""


class Map(NamedTuple):
    positions: Float64[np.ndarray, "epochs rows 2"]
    """In the units of the embeddings: a distance in the map is at most the true distance."""
    shares: list[float | None]
    """Of the variance of each epoch's rows, the part that lies in the plane; None if all rows are one point."""


def embedding_map(spaces: Float64[np.ndarray, "epochs rows width"]) -> Map:
    """Rows of some epochs in one plane: that of the two leading principal components of all of them together.

    One plane for all epochs: what moves between two epochs has moved in the space, and nothing turns. The sign of each
    component makes its largest loading positive.
    """
    epochs, rows, width = spaces.shape
    pooled = spaces.reshape(epochs * rows, width)
    centered = pooled - pooled.mean(axis=0)
    # only the two largest: all of them take seconds for wide features
    leading = (max(0, width - 2), width - 1)
    _, directions = eigh(centered.T @ centered, subset_by_index=leading)
    plane = directions[:, ::-1]
    largest = plane[np.abs(plane).argmax(axis=0), np.arange(plane.shape[1])]
    plane = plane * np.where(largest < 0, -1.0, 1.0)
    flat = centered @ plane
    if width < 2:
        flat = np.column_stack([flat, np.zeros(len(flat))])
    positions = flat.reshape(epochs, rows, 2)
    return Map(positions, [_share(*pair) for pair in zip(positions, spaces, strict=True)])


def turned_to_fit(
    positions: Float64[np.ndarray, "epochs rows 2"], target: Float64[np.ndarray, "rows 2"]
) -> Float64[np.ndarray, "epochs rows 2"]:
    """The map rotated, and mirrored if that is better, so that its last epoch is nearest to `target`.

    Orthogonal Procrustes (Schönemann 1966) around the means: distances in the map do not change.
    """
    last = positions[-1] - positions[-1].mean(axis=0)
    left, _, right = np.linalg.svd(last.T @ (target - target.mean(axis=0)))
    turned: np.ndarray = positions @ (left @ right)
    return turned


def class_balanced(labels: Int[np.ndarray, " rows"], *, most: int = MOST_ROWS) -> list[int]:
    """Places of at most `most` rows, ascending: of each class equally many if it has them, at even distances.

    With more classes than `most`, one row of each of `most` classes at even distances.
    """
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = np.zeros(len(sizes), dtype=np.int64)
    if len(sizes) > most:
        wanted[np.arange(most) * len(sizes) // most] = 1
    else:
        while wanted.sum() < min(most, len(labels)):
            open_ = np.flatnonzero(wanted < sizes)
            wanted[open_[: most - int(wanted.sum())]] += 1
    places = np.argsort(group, kind="stable")
    starts = np.cumsum(sizes) - sizes
    chosen = [
        places[start + np.arange(count) * size // count]
        for start, size, count in zip(starts, sizes, wanted, strict=True)
        if count
    ]
    return sorted(np.concatenate(chosen).tolist())


def _share(positions: np.ndarray, rows: np.ndarray) -> float | None:
    total = float(rows.var(axis=0).sum())
    return min(1.0, float(positions.var(axis=0).sum()) / total) if total > 1e-20 else None
