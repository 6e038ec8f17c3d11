"""The scores that rows are ranked by, in two forms: exact in float64, and quick in float32 with a bound on its error.

A score is the dot product of query and row plus a number that belongs to the row. A number that belongs to the query
is left out, because it changes no rank. The quick form subtracts the mean of the rows first: in a narrow cone, all
products agree to seven digits, and their rounding would decide the order. Higham 2002, section 3.1, for the bound.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from lossgauge.batch import largest_entry
from lossgauge.errors import InputError

Similarity = Literal["dot", "cosine", "euclidean"]

_CONE = 1 / 8
"""Rows whose root mean squared distance to their mean is below this share of their length are in a cone. Unit rows in a
cone are ranked by their distances, which keep the digits that cosines near 1 lose; others by cosines, whose ties are
exact. Distances of rows in a cone are those of the rows minus their mean; of others not, so that their ties are exact."""
_PAIRS = 4096  # this many gathered rows fit in the CPU cache
_SINGLE, _DOUBLE = (torch.finfo(kind).eps / 2 for kind in (torch.float32, torch.float64))


class Scores(NamedTuple):
    """The parts of the scores: rows to multiply with a query, and the number that is added for each row."""

    exact: Float64[Tensor, "rows width"]
    added: Float64[Tensor, " rows"]
    quick: Float32[Tensor, "rows width"]
    quick_added: Float32[Tensor, " rows"]
    error: Float32[Tensor, " rows"]
    """For each query, the largest possible error of a quick score, in the units of that score."""


def prepared(rows: Float[Tensor, "rows width"], *, similarity: Similarity) -> Scores:
    """Scores by dot products of finite rows, by cosines or by distances. Memory is 12 bytes for each number of `rows`."""
    if similarity == "cosine":
        _, exact = norms_and_directions(rows)
        _check_directions(exact)
        return _by_distance(exact, size=float(len(exact)), everywhere=False)
    exact = _moderate(rows)
    if similarity == "euclidean":
        return _by_distance(exact, size=float(exact.square().sum()), everywhere=True)
    return _with_quick(exact, exact.new_zeros(len(rows)))


def _by_distance(exact: Float64[Tensor, "rows width"], *, size: float, everywhere: bool) -> Scores:
    """Scores by distances between the rows; if not `everywhere`, then only of rows in a cone, and else by products.

    `size` is the sum of the squares of all entries.
    """
    mean = _mean(exact)
    cone = float((exact - mean).square().sum()) < _CONE**2 * size
    if cone:
        exact -= mean
    if not cone and not everywhere:
        return _with_quick(exact, exact.new_zeros(len(exact)))
    # ‖q − g‖² = ‖q‖² − 2·q·g + ‖g‖², without ‖q‖², divided by −2
    return _with_quick(exact, torch.linalg.vecdot(exact, exact) / -2)


def _with_quick(exact: Float64[Tensor, "rows width"], added: Float64[Tensor, " rows"]) -> Scores:
    mean = _mean(exact)
    centered = exact - mean
    # q·g = (q − m)·(g − m) + m·(g − m) + a term that depends only on q
    added_centered = centered @ mean + added
    added_centered -= added_centered.mean()
    norms = torch.linalg.vector_norm(centered, dim=1)
    scale = 2.0 ** -max(-400, _exponent(norms))
    norms *= scale
    centered *= scale
    added_centered *= scale * scale
    error = _error(exact, norms, added_centered, scale, float(added.abs().max()))
    return Scores(exact, added, centered.float(), added_centered.float(), error)


def _mean(rows: Float64[Tensor, "rows width"]) -> Float64[Tensor, " width"]:
    first = rows[0]  # so that the mean of equal rows is exactly this row
    return first + (rows - first).mean(dim=0)


def _error(
    exact: Float64[Tensor, "rows width"],
    norms: Float64[Tensor, " rows"],
    added: Float64[Tensor, " rows"],
    scale: float,
    largest_added: float,
) -> Float32[Tensor, " rows"]:
    largest, width = norms.max(), exact.shape[1]
    if not largest:  # equal rows: every score is 0, and exact
        return torch.zeros_like(norms).float()
    # the factors, the products, the sums and the added number are each rounded once
    quick = _SINGLE * ((width + 8) * norms * largest + 3 * added.abs().max())
    # small products underflow in float32
    lost = (4 * width + 4) * torch.finfo(torch.float32).tiny
    full = torch.linalg.vector_norm(exact, dim=1).mul_(scale)
    exact_sum = _DOUBLE * ((width + 8) * full * full.max() + 4 * largest_added * scale * scale)
    error: Tensor = 1.01 * (quick + lost + exact_sum)
    return error.float()


def exact_scores(
    scores: Scores,
    block: Int64[Tensor, " block"],
    query: Int64[Tensor, " pairs"],
    column: Int64[Tensor, " pairs"],
) -> Float64[Tensor, " pairs"]:
    """The float64 score of each pair of a query (its index in `block`, ascending) and a row.

    The bits of a score do not depend on the other pairs.
    """
    if scores.exact.device.type != "cpu":
        pairs = zip(block[query].split(_PAIRS), column.split(_PAIRS), strict=True)
        products = [
            torch.linalg.vecdot(scores.exact[one], scores.exact[other]) for one, other in pairs
        ]
        return torch.cat(products) + scores.added[column]
    # a product of two matrices at some entries only: ten times as fast as gathering the rows
    ends = torch.bincount(query, minlength=len(block)).cumsum(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        # torch 2.11 warns so though they are disabled explicitly
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
        added = torch.sparse_csr_tensor(
            torch.cat([ends.new_zeros(1), ends]),
            column,
            scores.added[column],
            size=(len(block), len(scores.exact)),
            check_invariants=False,
        )
        sums: Tensor = torch.sparse.sampled_addmm(added, scores.exact[block], scores.exact.T)
        return sums.values()


def similarities(
    one: Float[Tensor, "pairs width"], other: Float[Tensor, "pairs width"], kind: Similarity
) -> Float64[Tensor, " pairs"]:
    """The similarity of each pair of rows, in float64; of `euclidean` it is minus the distance. Higher is nearer."""
    one, other = one.double(), other.double()
    if kind == "euclidean":
        distances: Tensor = torch.linalg.vector_norm(one - other, dim=1)
        return -distances
    if kind == "cosine":
        one, other = norms_and_directions(one)[1], norms_and_directions(other)[1]
    products: Tensor = torch.linalg.vecdot(one, other)
    return products


def norms_and_directions(
    rows: Float[Tensor, "rows width"],
) -> tuple[Float64[Tensor, " rows"], Float64[Tensor, "rows width"]]:
    """The norms of rows, and the rows divided by their norms, in float64, for any size of the entries.

    A row of zeros stays zero.
    """
    unit = rows.to(torch.float64, copy=True)
    low, high = unit.aminmax(dim=1)
    largest = torch.maximum(-low, high)
    size = torch.ones_like(largest)
    extreme = (largest > 0) & (
        (largest < 1e-140) | (largest > 1e140)
    )  # their squares do not fit float64
    size[extreme] = largest[extreme]
    unit[extreme] /= size[extreme, None]
    norms = torch.linalg.vector_norm(unit, dim=1)
    return norms * size, unit.div_(norms.masked_fill(norms == 0, 1)[:, None])


def _moderate(rows: Float[Tensor, "rows width"]) -> Float64[Tensor, "rows width"]:
    """A copy in float64, times a power of two, so that its largest entry is near 1; the scaling is exact."""
    exponent = _exponent(rows)
    half = exponent // 2  # the whole power may be out of range
    copy = rows.to(torch.float64, copy=True)
    return copy.mul_(2.0**-half).mul_(2.0 ** (half - exponent)) if exponent else copy


def _exponent(values: Float[Tensor, "*shape"]) -> int:
    """The exponent of the power of two just above the largest entry; 0 if all entries are 0."""
    return math.frexp(largest_entry(values))[1]


def _check_directions(unit: Float64[Tensor, "rows width"]) -> None:
    zero = (~unit.any(dim=1)).nonzero().flatten()
    if len(zero):
        raise InputError(
            f"cosine similarity needs rows that are not zero, but row {int(zero[0])} is all zeros "
            f"({len(zero)} of {len(unit)} rows are): leave those rows out"
        )
