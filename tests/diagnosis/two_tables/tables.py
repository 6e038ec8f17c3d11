"""Queries and documents for the tests of this folder."""

from __future__ import annotations

import numpy as np


def pair_tables(*, queries=60, documents=150, width=16, noise=0.8, seed=0, norms=False):
    """Documents at random, and queries near the first of them: (queries, documents, right pairs as rows)."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(documents, width))
    asked = rows[:queries] + noise * generator.normal(size=(queries, width))
    if not norms:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    right = np.stack([np.arange(queries)] * 2, axis=1)
    return asked.astype(np.float32), rows.astype(np.float32), right


def unit(rows):
    rows = rows.astype(float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_ids(path, rows, prefix):
    np.savez(path, embeddings=rows, ids=np.array([f"{prefix}{n}" for n in range(len(rows))]))
