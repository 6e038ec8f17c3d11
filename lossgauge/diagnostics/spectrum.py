"""The spectrum of a space: how its variance is spread over directions.

Roy and Vetterli 2007 for the effective rank; the participation ratio is (Σλ)²/Σλ².
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from lossgauge.diagnostics.moments import Moments, overall_mean

TOP = (1, 4, 16, 64)


class Spectrum(NamedTuple):
    """Of the centred covariance of the rows; every row counts once."""

    effective_rank: float
    """exp of the entropy of the eigenvalues' shares, in [1, width]; NaN if the rows do not vary."""
    participation_ratio: float
    """(Σλ)² / Σλ², in [1, width]: never above the effective rank, and less sensitive to small eigenvalues."""
    top_share: dict[int, float]
    """Number of directions → share of the variance in the strongest ones."""
    for_90_percent: int
    """How many directions hold 90 % of the variance; 0 if the rows do not vary."""
    width: int


def spectrum(of: Moments) -> Spectrum:
    """The spectrum from moments. Time grows as the cube of the smaller of rows and width."""
    width = of.mean.shape[1]
    share = eigenvalue_shares(of)
    top = [number for number in TOP if number < width]
    if not len(share):
        return Spectrum(math.nan, math.nan, dict.fromkeys(top, math.nan), 0, width)
    sums = share.cumsum(0)
    return Spectrum(
        effective_rank=_rank(share),
        participation_ratio=1 / float(share.square().sum()),
        top_share={number: float(sums[min(number, len(sums)) - 1]) for number in top},
        for_90_percent=1 + int((sums < 0.9 * (1 - 1e-12)).sum()),
        width=width,
    )


def effective_rank(of: Moments) -> float:
    """exp of the entropy of the covariance's spectrum, in [1, width]; NaN if the rows do not vary."""
    share = eigenvalue_shares(of)
    return _rank(share) if len(share) else math.nan


def eigenvalue_shares(of: Moments) -> Float64[Tensor, " directions"]:
    """The eigenvalues over their sum, in descending order; empty if the rows do not vary."""
    spread = of.spread
    matrix = spread @ spread.T if len(spread) < spread.shape[1] else spread
    eigenvalues = torch.linalg.eigvalsh(matrix).flip(0).clamp(min=0)
    total = float(eigenvalues.sum())
    # with equal rows, only the rounding of their mean remains, which is not variance
    size = float(of.sizes.sum()) * float(overall_mean(of).square().sum())
    shares: Tensor = eigenvalues[:0] if total <= 1e-28 * size else eigenvalues / total
    return shares


def _rank(share: Float64[Tensor, " directions"]) -> float:
    return float(torch.special.entr(share).sum().exp())
