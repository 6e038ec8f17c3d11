"""The mean that `lossgauge embed --center` subtracts from the embeddings of a side: computed now, or that of an earlier file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from lossgauge.data.embedded_file import BACKBONE, HEAD, MEAN
from lossgauge.data.embedding_shards import SIDES, file_of_side, rows_in_words
from lossgauge.errors import DataError, InputError
from lossgauge.ranking.centering import centered_directions
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.stats.number_format import counted

ONE_PLACE = 1e-14
"""Directions whose variance is below this are equal, up to rounding."""


class Mean(NamedTuple):
    """What is subtracted from each direction of a table."""

    vector: Float64[Tensor, " width"]
    words: str
    """Whose mean it is."""


class StoredMean(NamedTuple):
    """The mean in an earlier file."""

    path: Path
    vector: Float64[np.ndarray, " width"]
    side: str | None
    backbone: str | None
    """The hash of the backbone of its rows; None where that is not known."""

    def as_mean(self) -> Mean:
        return Mean(torch.from_numpy(self.vector), f"the mean in {self.path}")

    def check_width(self, width: int) -> None:
        """InputError for embeddings of another width."""
        if self.vector.shape != (width,):
            raise InputError(
                f"the mean in {self.path} has {len(self.vector)} numbers, and these embeddings have {width}: give a file of the same model"
            )

    def check_side(self, side: str | None) -> None:
        """InputError for rows of another side."""
        if self.side != side:
            raise InputError(
                f"the mean in {self.path} is that of {rows_in_words(self.side)}, and these are {rows_in_words(side)}: give a file of the same side, and say it "
                "with --side"
            )

    def check_backbone(self, backbone: str | None) -> None:
        """InputError for features of another backbone, where both are known."""
        if None not in (self.backbone, backbone) and self.backbone != backbone:
            raise InputError(
                f"the mean in {self.path} is that of features of another backbone: give a file of the same backbone, or embed these rows with that one "
                "(--backbone)"
            )


def mean_of(
    blocks: Iterator[Float[Tensor, "block width"]],
    train: Bool[np.ndarray, " rows"] | None,
    *,
    rows: str,
    data: str,
) -> Mean:
    """The mean direction of the rows that `train` names, or of all; rows of zeros have none, and do not count.

    It is that of a study (queries: the training queries; documents: all) and of `lossgauge diagnose` (all rows). `rows` says what they are.
    Raises DataError if all have one direction: nothing would be left of them.
    """
    total: Tensor | None = None
    count = done = 0
    for block in blocks:
        _, directions = norms_and_directions(block)
        some = directions.any(dim=1)
        if train is not None:
            some &= torch.from_numpy(train[done : done + len(block)])
        part = directions[some].sum(dim=0)
        total = part if total is None else total + part
        count += int(some.sum())
        done += len(block)
    if total is None or not count or 1 - float(total @ total) / count**2 < ONE_PLACE:
        raise DataError(
            f"--center needs rows with different directions, and those of {data} have none ({counted(count, 'row')} without zeros): leave it out, or "
            "take the mean of an earlier file with --center-of FILE"
        )
    every = "training queries" if train is not None else rows
    return Mean(total / count, f"the mean of {count:,} {every}")


def read_mean(path: Path, *, mark: str, side: str | None = None) -> StoredMean:
    """The mean that was subtracted in a file of `lossgauge embed --center`, of embeddings with this `mark`. `side` is that of the rows to
    center, where it is known.

    Raises DataError for a file that cannot be read, and InputError where it was not centered or is of another head.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            stored = {
                name: arrays[name]
                for name in (MEAN, HEAD, BACKBONE, "sides")
                if name in arrays.files
            }
        side_of_file = str(stored["sides"][0]) if "sides" in stored else None
        vector = np.asarray(stored.get(MEAN, ()), dtype=np.float64)
    except FileNotFoundError:
        places = (file_of_side(path, one) for one in SIDES if side in (None, one))
        if there := [str(place) for place in places if place.is_file()]:
            raise DataError(
                f"there is no file {path}: give {' or '.join(there)} to --center-of"
            ) from None
        raise DataError(
            f"there is no file {path}: --center-of X.npz reads X.npz where one side is written, X-queries.npz and X-documents.npz where both are"
        ) from None
    except (OSError, ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
        raise DataError(f"{path} cannot be read: {WRITTEN}") from None
    if MEAN not in stored or HEAD not in stored:
        raise InputError(f"{path} was not centered, it has no mean: {WRITTEN}")
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise DataError(f"the mean in {path} must be finite numbers in one row: {WRITTEN}")
    if str(stored[HEAD]) != mark:
        raise InputError(
            f"the mean in {path} is that of other embeddings: give a file of the same head, or one of --frozen with --frozen"
        )
    backbone = str(stored[BACKBONE]) if BACKBONE in stored else None
    return StoredMean(path, vector, side_of_file, backbone)


WRITTEN = "--center-of needs a file that `lossgauge embed --center` wrote"


def centered(
    blocks: Iterator[Float[Tensor, "block width"]], mean: Float64[Tensor, " width"]
) -> Iterator[Float64[Tensor, "block width"]]:
    """The directions minus `mean`, of length 1 again; a row of zeros stays zero."""
    for block in blocks:
        yield centered_directions(norms_and_directions(block)[1], mean)
