"""One of the two tables: its rows, and what is measured of them alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.data.embedding_shards import DOCUMENT, PLURALS, QUERY
from lossgauge.diagnosis.one_pass import measure_part
from lossgauge.diagnosis.over_pairs import directions_of
from lossgauge.diagnosis.parts import Norms, PartMeasures, merge_parts
from lossgauge.diagnosis.source import Source, from_arrays, from_files
from lossgauge.diagnostics.copies import Copies, copies
from lossgauge.diagnostics.moments import Moments
from lossgauge.diagnostics.spectrum import Spectrum, spectrum
from lossgauge.diagnostics.uniformity import evenly_spaced, uniformity
from lossgauge.diagnostics.variance import Geometry, geometry_without_classes
from lossgauge.errors import DataError, InputError

IN_MEMORY = 2**22
"""Up to so many numbers, the covariance is computed in float64 from all rows at a time."""


class Side(NamedTuple):
    """The queries, or the documents."""

    name: str
    row_count: int
    width: int
    norms: Norms
    geometry: Geometry
    """Of the normalised rows, without classes: `offset` is the mean cosine of two rows."""
    spectrum: Spectrum
    copies: Copies
    """Rows with the same numbers as an earlier one."""
    centered: bool = False
    """Whether the file says that a mean is subtracted already."""


class Measured(NamedTuple):
    """A side with what the numbers of both sides need."""

    side: Side
    moments: Moments
    rows: Int64[np.ndarray, " known"]
    """The rows that are not zero, ascending."""


def read_side(given: str | Path | ArrayLike, what: str, embeddings_name: str) -> Source:
    """The rows of a file, folder or array; `what` names an array in messages. Labels in a file are not used.

    Raises DataError or InputError for what cannot be read, for a table without rows, and for an id that two rows have.
    """
    if isinstance(given, str | Path):
        source = from_files(Path(given), embeddings_name=embeddings_name, least_rows=1)
        wanted = DOCUMENT if what.endswith("corpus") else QUERY
        if source.side not in (None, wanted):
            raise InputError(
                f"the {what} must be {PLURALS[wanted]}, but the rows of {source.name} are {PLURALS[str(source.side)]}, as its array sides "
                "says: give the queries first, and the documents as the corpus"
            )
    else:
        try:
            source = from_arrays(given, least_rows=1)._replace(name=what, paths=(what,))
        except InputError as problem:
            raise InputError(f"{what}: {problem}") from None
    if source.ids is not None:
        _check_ids(source)
    return source._replace(labels=None, class_names={}, notes=())


def _check_ids(source: Source) -> None:
    assert source.ids is not None
    order = np.argsort(source.ids, kind="stable")
    same = np.flatnonzero(source.ids[order][1:] == source.ids[order][:-1])
    if len(same):
        first, second = order[same[0]], order[same[0] + 1]
        raise DataError(
            f"ids must be unique, but {source.where(int(first))} and {source.where(int(second))} are both "
            f"{str(source.ids[first])!r}: rename one, or remove it"
        )


def measure_side(source: Source, progress: Callable[[int], None]) -> Measured:
    """Reads all rows once. Raises DataError for NaN and infinities, and InputError if all rows are zero."""
    groups = np.zeros(source.row_count, np.int64)
    exact = source.row_count * source.width <= IN_MEMORY
    parts = merge_parts(
        [
            measure_part(
                array,
                groups[first:last],
                class_count=1,
                first_row=first,
                exact=exact,
                where=source.where,
                progress=progress,
            )
            for array, (first, last) in zip(source.arrays, pairwise(source.starts), strict=True)
        ]
    )
    if parts.moments is None:
        raise InputError(
            f"{source.name}: all {source.row_count} rows are zero, so none has a direction"
        )
    rows = np.setdiff1d(np.arange(source.row_count), parts.zero)
    side = Side(
        name=source.name,
        row_count=source.row_count,
        width=source.width,
        norms=parts.norms,
        geometry=geometry_without_classes(parts.moments, uniformity=_uniformity(source, rows)),
        spectrum=spectrum(parts.moments),
        copies=_copies(parts, rows),
        centered=source.centered,
    )
    return Measured(side, parts.moments, rows)


def _uniformity(source: Source, rows: Int64[np.ndarray, " known"]) -> float:
    if len(rows) < 2:
        return float("nan")
    return uniformity(directions_of(source, rows[evenly_spaced(len(rows)).numpy()]))


def _copies(parts: PartMeasures, rows: Int64[np.ndarray, " known"]) -> Copies:
    found = copies(torch.from_numpy(parts.hashes[rows].view(np.int64)))
    numbers = torch.from_numpy(rows)
    return found._replace(row=numbers[found.row], of=numbers[found.of])


def pair_cosines(
    queries: Source,
    documents: Source,
    query: Int64[np.ndarray, " pairs"],
    document: Int64[np.ndarray, " pairs"],
) -> Float64[np.ndarray, " pairs"]:
    """The cosine of each pair of rows. Memory is bounded; a row of zeros gives 0."""
    size = max(1, 2**21 // queries.width)
    parts = [np.empty(0)]
    for start in range(0, len(query), size):
        one, other = (
            _gathered(source, rows[start : start + size])
            for source, rows in ((queries, query), (documents, document))
        )
        parts.append(torch.linalg.vecdot(one, other).numpy())
    return np.concatenate(parts)


def _gathered(source: Source, rows: Int64[np.ndarray, " pairs"]) -> Float64[Tensor, "pairs width"]:
    """Directions of rows, each of which is read once."""
    needed, place = np.unique(rows, return_inverse=True)
    return directions_of(source, needed)[torch.from_numpy(place)]
