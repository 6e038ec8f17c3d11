"""What a pass over an array gives, and how the records of several arrays are merged. Chan, Golub, LeVeque 1979 for the norms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from lossgauge.diagnostics.moments import Moments, merge_all

EQUAL_NORMS = 1e-3
"""Norms whose largest is above the smallest by at most this share are equal."""


class Norms(NamedTuple):
    """The lengths of the rows that are not zero, and how many are zero."""

    rows: int
    mean: float
    least: float
    most: float
    zero_count: int
    first_zero: int
    """The number of the first row of zeros; −1 if there is none."""

    @property
    def differ(self) -> bool:
        """Whether cosine and dot product may rank differently."""
        return self.most > self.least * (1 + EQUAL_NORMS)


class Queries(NamedTuple):
    """Rows that are searched for."""

    rows: Int64[np.ndarray, " queries"]
    groups: Int64[np.ndarray, " queries"]
    directions: Float64[np.ndarray, "queries width"]


class Nearest(NamedTuple):
    """Rows and float32 scores, the highest first; row −1 and score −∞ where nothing was found."""

    score: Float64[np.ndarray, "queries kept"]
    row: Int64[np.ndarray, "queries kept"]


class Candidates(NamedTuple):
    """The rows nearest to each query: of all, of its class, and of other classes."""

    any: Nearest
    right: Nearest
    wrong: Nearest


class PartMeasures(NamedTuple):
    """What one array gives; several are merged."""

    moments: Moments | None
    """Of the directions, with the numbers of the classes as labels; None if all rows are zero."""
    norms: Norms
    hashes: UInt64[np.ndarray, " rows"]
    zero: Int64[np.ndarray, " zeros"]
    """The numbers of the rows of zeros."""
    candidates: Candidates | None


def merge_parts(parts: Sequence[PartMeasures]) -> PartMeasures:
    """The measures of all rows together, from parts in the order of their rows."""
    known = [part.moments for part in parts if part.moments is not None]
    candidates = [part.candidates for part in parts if part.candidates is not None]
    return PartMeasures(
        merge_all(known) if known else None,
        reduce(merge_norms, (part.norms for part in parts)),
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.zero for part in parts]),
        merge_candidates(candidates) if candidates else None,
    )


def merge_norms(a: Norms, b: Norms) -> Norms:
    """The norms of both sets of rows together."""
    count = a.rows + b.rows
    gap = b.mean - a.mean if a.rows and b.rows else 0.0
    zeros = [first for first in (a.first_zero, b.first_zero) if first >= 0]
    return Norms(
        rows=count,
        mean=(a.mean + gap * b.rows / count if a.rows else b.mean) if count else 0.0,
        least=min(a.least, b.least),
        most=max(a.most, b.most),
        zero_count=a.zero_count + b.zero_count,
        first_zero=min(zeros, default=-1),
    )


def merge_candidates(parts: Sequence[Candidates]) -> Candidates:
    """The highest of all parts; of equal scores the lower row."""
    return Candidates(*(_best(of) for of in zip(*parts, strict=True)))


def _best(parts: Iterable[Nearest]) -> Nearest:
    parts = list(parts)
    score = np.concatenate([part.score for part in parts], axis=1)
    row = np.concatenate([part.row for part in parts], axis=1)
    order = np.lexsort((row, -score), axis=1)[:, : parts[0].row.shape[1]]
    return Nearest(np.take_along_axis(score, order, 1), np.take_along_axis(row, order, 1))


def norms_of(norms: Float64[np.ndarray, " rows"], zero: np.ndarray) -> Norms:
    """The record of some norms; `zero` has the numbers of the rows whose norm is 0."""
    known = norms[norms > 0] if len(zero) else norms
    first = int(zero[0]) if len(zero) else -1
    if not len(known):
        return Norms(0, 0.0, np.inf, 0.0, len(zero), first)
    mean = float(known.mean())
    return Norms(len(known), mean, float(known.min()), float(known.max()), len(zero), first)
