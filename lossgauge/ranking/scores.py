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

Similarity = Literal["dot", "cosine"]

_CONE = 1 / 8
"""Unit rows whose root mean squared distance to their mean is below this are in a cone: they are ranked by their
distances, which keep the digits that cosines near 1 lose. Other rows are ranked by cosines, whose ties are exact."""
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
    """Scores by dot products of finite rows, or by cosines. Memory is 12 bytes for each number of `rows`."""
    if similarity == "cosine":
        _, exact = norms_and_directions(rows)
        _check_directions(exact)
        mean = _mean(exact)
        cone = float((exact - mean).square().sum()) < _CONE**2 * len(rows)
        if cone:
            exact -= mean
        # ‖q − g‖² = ‖q‖² − 2·q·g + ‖g‖², without ‖q‖², divided by −2
        added = torch.linalg.vecdot(exact, exact) / -2 if cone else exact.new_zeros(len(rows))
    else:
        exact = _moderate(rows)
        added = exact.new_zeros(len(rows))
    return _with_quick(exact, added)


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
    return Scores(
        exact,
        added,
        centered.float(),
        added_centered.float(),
        _error(exact, norms, added_centered, scale),
    )


def _mean(rows: Float64[Tensor, "rows width"]) -> Float64[Tensor, " width"]:
    first = rows[0]  # so that the mean of equal rows is exactly this row
    return first + (rows - first).mean(dim=0)


def _error(
    exact: Float64[Tensor, "rows width"],
    norms: Float64[Tensor, " rows"],
    added: Float64[Tensor, " rows"],
    scale: float,
) -> Float32[Tensor, " rows"]:
    largest, width = norms.max(), exact.shape[1]
    if not largest:  # equal rows: every score is 0, and exact
        return torch.zeros_like(norms).float()
    # the factors, the products, the sums and the added number are each rounded once
    quick = _SINGLE * ((width + 8) * norms * largest + 3 * added.abs().max())
    # small products underflow in float32
    lost = (4 * width + 4) * torch.finfo(torch.float32).tiny
    full = torch.linalg.vector_norm(exact, dim=1).mul_(scale)
    error: Tensor = 1.01 * (quick + lost + _DOUBLE * (width + 8) * full * full.max())
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
