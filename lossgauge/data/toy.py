"""The toy set of arXiv 2510.02161: ten Gaussian classes with noisy labels and outliers, made up by a seeded generator.

The authors' published code defines it; this is our own implementation, with other random numbers.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64

from lossgauge.data.splits import fingerprint, halves
from lossgauge.errors import InputError, nearest
from lossgauge.types import FeatureSet

CLASSES, ROWS_A_CLASS, OUTLIERS, WIDTH = 10, 200, 100, 128
CENTER_SPREAD, OUTLIER_SPREAD = 5.0, 15.0
"""Standard deviations of the coordinates of class centers, and of outliers."""

INSIDE_SCALE, LABEL_NOISE, OUTLIER_LABEL = 1.4, 0.1, -1

NAMES = ("gaussians", "gaussians-halves")
"""`gaussians` is measured on the rows it is trained on, as in the paper; `gaussians-halves` on a held-out half of each class."""


class Toy(NamedTuple):
    """Unit vectors and their labels."""

    rows: Float32[np.ndarray, "rows width"]
    labels: Int64[np.ndarray, " rows"]


def gaussian_classes(seed: int = 0) -> Toy:
    """2,000 rows of ten classes, then 100 outliers, which are a class of their own with label −1.

    Each class has its own random covariance. A tenth of the labels is replaced by a random class, which may be the same one.
    The rows are normalised at the end.
    """
    generator = np.random.default_rng(seed)
    centers = generator.normal(0, CENTER_SPREAD, (CLASSES, WIDTH))
    inside = [_class_rows(center, generator) for center in centers]
    labels = np.repeat(np.arange(CLASSES), ROWS_A_CLASS)
    is_noisy = generator.random(len(labels)) < LABEL_NOISE
    labels[is_noisy] = generator.integers(CLASSES, size=int(is_noisy.sum()))
    outliers = generator.normal(0, OUTLIER_SPREAD, (OUTLIERS, WIDTH))
    rows = np.concatenate([*inside, outliers])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    every_label = np.concatenate([labels, np.full(OUTLIERS, OUTLIER_LABEL)])
    return Toy(rows.astype(np.float32), every_label.astype(np.int64))


def _class_rows(center: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    mixing = generator.normal(size=(WIDTH, WIDTH))
    factor = np.linalg.cholesky(mixing @ mixing.T + 1e-3 * np.eye(WIDTH))
    return center + INSIDE_SCALE * generator.normal(size=(ROWS_A_CLASS, WIDTH)) @ factor.T


def load(name: str) -> FeatureSet:
    """The toy set as features, which need no backbone. Raises InputError for an unknown name."""
    if name not in NAMES:
        raise InputError(f"unknown toy set {name!r}{nearest(name, NAMES)}")
    rows, labels = gaussian_classes()
    every = np.arange(len(labels))
    train, test = (every, every) if name == "gaussians" else halves(labels)
    ids = [str(row) for row in every]
    return FeatureSet(
        dataset=f"toy:{name}",
        backbone="none (toy set)",
        features=torch.from_numpy(rows),
        labels=torch.from_numpy(labels),
        train=torch.from_numpy(train),
        test=torch.from_numpy(test),
        protocol="same rows" if name == "gaussians" else "halves",
        fingerprint=fingerprint(ids, labels, train, test),
        identity={
            "dataset": f"toy:{name}",
            "backbone": "none (toy set)",
            "rows": hashlib.sha256(rows.tobytes() + labels.tobytes()).hexdigest(),
        },
        class_names={OUTLIER_LABEL: "outliers"},
    )
