"""Estimates the time and size of feature extraction from a few images, with random rows instead of the features."""

from __future__ import annotations

import dataclasses
import time
from typing import NamedTuple

import numpy as np
import torch

from lossgauge.data.extraction import BATCH
from lossgauge.data.extraction_jobs import extract_rows
from lossgauge.data.features import SKIPPED_COUNT, SKIPPED_SHARE, feature_set, is_stopped
from lossgauge.data.locations import first_few
from lossgauge.errors import DataError
from lossgauge.types import Backbone, FeatureSet, ImageSet

SAMPLE = 2 * BATCH
"""Images that are tried."""


class Estimate(NamedTuple):
    """The estimate for an extraction that was not run."""

    features: FeatureSet
    """The feature set with random rows, and with notes on the tried images that cannot be read."""
    seconds: float
    """Time with one process."""
    bytes: int
    """Size in the cache."""


def estimate(images: ImageSet, backbone: Backbone) -> Estimate:
    """Try some images from the whole dataset, and extrapolate. Raises DataError if none of them can be read."""
    count = len(images.ids)
    rows = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(int))
    some = dataclasses.replace(
        images,
        ids=tuple(images.ids[row] for row in rows),
        read=lambda row: images.read(int(rows[row])),
    )
    began = time.perf_counter()
    tried = list(extract_rows(some, backbone, jobs=1))
    seconds = (time.perf_counter() - began) * count / len(rows)
    widths = {part.rows.shape[1] for part in tried if len(part.rows)}
    if not widths:
        raise DataError(
            f"{images.name}: none of the {len(rows)} images that were tried can be read, "
            f"for example {some.ids[0]} ({next(iter(tried[0].skipped.values()))})"
        )
    noise = torch.randn(count, widths.pop(), generator=torch.Generator().manual_seed(0))
    features = feature_set(images, backbone, noise)
    unreadable = [some.ids[row] for part in tried for row in part.skipped]
    notes = (*features.notes, *_notes(unreadable, tried=len(rows), count=count))
    return Estimate(features._replace(notes=notes), seconds, noise.nbytes)


def _notes(unreadable: list[str], *, tried: int, count: int) -> list[str]:
    """Notes on the tried images that cannot be read, and whether such a share of all images would stop the dataset."""
    if not unreadable:
        return []
    notes = [
        f"left out because they cannot be read ({len(unreadable):,} of the {tried:,} tried): "
        f"{first_few(unreadable)}"
    ]
    expected = len(unreadable) * count / tried
    if is_stopped(expected, count):
        notes.append(
            f"a study would stop here: about {expected:,.0f} of the {count:,} images cannot be read, but at most "
            f"{SKIPPED_COUNT} or {SKIPPED_SHARE:.0%} are allowed: repair or remove them"
        )
    return notes
