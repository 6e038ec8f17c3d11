"""The rows of a file as a diagnosis reads them, for the tests of formats."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossgauge.diagnosis.source import from_files


class Given(NamedTuple):
    embeddings: np.ndarray
    """float64."""
    labels: np.ndarray | None
    class_names: dict[int, str]
    notes: tuple[str, ...]


def read_embeddings(path: Path, **names: str) -> Given:
    of = from_files(path, **names)
    return Given(of.rows(np.arange(of.row_count)).numpy(), of.labels, of.class_names, of.notes)
