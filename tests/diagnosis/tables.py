"""Tables of embeddings for the tests of this folder."""

from __future__ import annotations

import numpy as np


def table(*, classes=8, size=25, width=12, noise=0.5, seed=0, norms=False):
    """Float32 rows around class centers, shuffled, and their labels 0, 3, 6, …"""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(classes), size))
    centers = generator.normal(size=(classes, width))
    rows = centers[labels] + noise * generator.normal(size=(len(labels), width))
    if norms:
        rows *= generator.uniform(0.2, 3, (len(rows), 1))
    else:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), labels * 3
