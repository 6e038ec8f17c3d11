"""What rows are ranked by, twice: in float64, and quickly in float32 with a bound on how far off that is.

Both are a product of two rows and a number of the second one, up to a number of the query, which moves no
rank. The quick one takes rows less their mean: in a narrow cone all products are alike to seven digits, and
rounding them would decide. Higham 2002, section 3.1, for the bound.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from lossgauge.errors import InputError

Similarity = Literal["dot", "cosine"]

_CONE = 1 / 8
"""Unit rows whose root mean squared distance to their mean is below this lie in a cone: they are ranked by their
distances, which keep the digits that cosines near 1 have lost. Others by cosines, whose ties are exact."""
_PAIRS = 4096  # so many gathered rows stay in a cache
_SINGLE, _DOUBLE = (torch.finfo(kind).eps / 2 for kind in (torch.float32, torch.float64))


class Scores(NamedTuple):
    """A row's score for a query: their product, and what is added to it for that row."""

    exact: Float64[Tensor, "rows width"]
    added: Float64[Tensor, " rows"]
    quick: Float32[Tensor, "rows width"]
    quick_added: Float32[Tensor, " rows"]
    error: Float32[Tensor, " rows"]
    """For each query, how far a quick score can be off, in its own units."""


def prepared(rows: Float[Tensor, "rows width"], *, similarity: Similarity) -> Scores:
    """Scores by dot products of finite rows, or by cosines. Memory is 12 bytes a number of `rows`."""
    if similarity == "cosine":
        _, exact = norms_and_directions(rows)
        _check_directions(exact)
        mean = _mean(exact)
        cone = float((exact - mean).square().sum()) < _CONE**2 * len(rows)
        if cone:
            exact -= mean
        # ‖q − g‖² = ‖q‖² − 2·q·g + ‖g‖², less the part of the query, over −2
        added = torch.linalg.vecdot(exact, exact) / -2 if cone else exact.new_zeros(len(rows))
    else:
        exact = _moderate(rows)
        added = exact.new_zeros(len(rows))
    return _with_quick(exact, added)


def _with_quick(exact: Float64[Tensor, "rows width"], added: Float64[Tensor, " rows"]) -> Scores:
    mean = _mean(exact)
    centered = exact - mean
    # q·g = (q − m)·(g − m) + m·(g − m) + what is the query's own
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
    first = rows[0]  # equal rows have exactly this mean
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
    # each of the factors, the products, the sums and what is added is rounded once
    quick = _SINGLE * ((width + 8) * norms * largest + 3 * added.abs().max())
    # small products leave the range of float32
    lost = (4 * width + 4) * torch.finfo(torch.float32).tiny
    full = torch.linalg.vector_norm(exact, dim=1).mul_(scale)
    error: Tensor = 1.01 * (quick + lost + _DOUBLE * (width + 8) * full * full.max())
    return error.float()


def exact_scores(
    of: Scores,
    block: Int64[Tensor, " block"],
    query: Int64[Tensor, " pairs"],
    column: Int64[Tensor, " pairs"],
) -> Float64[Tensor, " pairs"]:
    """The float64 score of each pair of a query (its place in `block`, ascending) and a row.

    A pair has the same bits in any company.
    """
    if of.exact.device.type != "cpu":
        pairs = zip(block[query].split(_PAIRS), column.split(_PAIRS), strict=True)
        products = [torch.linalg.vecdot(of.exact[one], of.exact[other]) for one, other in pairs]
        return torch.cat(products) + of.added[column]
    # a product of two matrices at some places only: ten times as fast as gathering the rows
    ends = torch.bincount(query, minlength=len(block)).cumsum(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        places = torch.sparse_csr_tensor(
            torch.cat([ends.new_zeros(1), ends]),
            column,
            of.added[column],
            size=(len(block), len(of.exact)),
            check_invariants=False,
        )
        found: Tensor = torch.sparse.sampled_addmm(places, of.exact[block], of.exact.T)
        return found.values()


def norms_and_directions(
    rows: Float[Tensor, "rows width"],
) -> tuple[Float64[Tensor, " rows"], Float64[Tensor, "rows width"]]:
    """The norms of rows, and the rows divided by them, in float64, however large or small they are.

    A row of zeros stays one.
    """
    unit = rows.to(torch.float64, copy=True)
    low, high = unit.aminmax(dim=1)
    largest = torch.maximum(-low, high)
    size = torch.ones_like(largest)
    extreme = (largest > 0) & (
        (largest < 1e-140) | (largest > 1e140)
    )  # their squares leave float64
    size[extreme] = largest[extreme]
    unit[extreme] /= size[extreme, None]
    norms = torch.linalg.vector_norm(unit, dim=1)
    return norms * size, unit.div_(norms.masked_fill(norms == 0, 1)[:, None])


def _moderate(rows: Float[Tensor, "rows width"]) -> Float64[Tensor, "rows width"]:
    """A copy in float64, times a power of two so that its largest entry lies near 1: no digit changes."""
    exponent = _exponent(rows)
    half = exponent // 2  # the whole power may be out of range
    copy = rows.to(torch.float64, copy=True)
    return copy.mul_(2.0**-half).mul_(2.0 ** (half - exponent)) if exponent else copy


def _exponent(of: Float[Tensor, "*shape"]) -> int:
    """The power of two just above the largest entry; 0 where all are 0."""
    low, high = (float(extreme) for extreme in of.aminmax())
    return math.frexp(max(-low, high))[1]


def _check_directions(unit: Float64[Tensor, "rows width"]) -> None:
    zero = (~unit.any(dim=1)).nonzero().flatten()
    if len(zero):
        raise InputError(
            f"cosine similarity needs rows that are not zero, but row {int(zero[0])} is all zeros "
            f"({len(zero)} of {len(unit)} rows are): leave those rows out"
        )
