"""Hubness: some rows are among the nearest of very many others, and some of none.

Radovanović, Nanopoulos, Ivanović 2010 (JMLR 11) for the skew of the k-occurrence; Flexer and Schnitzer 2015 for hubs
and antihubs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lossgauge.errors import InputError


class Hubness(NamedTuple):
    """How unevenly rows are found by each other. N_k of a row: how many of the others have it among their k nearest."""

    k: int
    skew: float
    """Third standardised moment of N_k over the rows: 0 is symmetric; NaN if all are found equally often."""
    never_found: float
    """Share of rows with N_k = 0, in [0, 1]: no query finds them (antihubs)."""
    hub_share: float
    """Share of all k-nearest places that rows with N_k ≥ 2k take, in [0, 1]."""
    most_found: int
    """The largest N_k."""
    most_found_row: int
    """The row that has it; the first one of several."""
    row_count: int
    """Rows that were searched among each other. The numbers grow with it: compare equal counts only."""


def hubness(neighbors: Int[Tensor, "rows k"]) -> Hubness:
    """Hubness of rows from the `k` nearest others of each of them, as row numbers. Linear in rows × k.

    Raises InputError if a neighbour is not the number of a row, or a row is its own neighbour.
    """
    count, k = neighbors.shape
    if count == 0 or k == 0:
        raise InputError(f"hubness needs rows and neighbours, got shape {tuple(neighbors.shape)}")
    low, high = int(neighbors.min()), int(neighbors.max())
    if low < 0 or high >= count:
        raise InputError(
            f"neighbours must be the numbers of the {count} rows, 0 to {count - 1}, got {low if low < 0 else high}"
        )
    own = (neighbors == torch.arange(count, device=neighbors.device)[:, None]).any(dim=1)
    if own.any():
        raise InputError(
            f"a row must not be its own neighbour, but row {int(own.nonzero()[0])} is: leave it out of its list"
        )
    found = neighbors.flatten().bincount(minlength=count)
    deviation = found.double() - k  # each row finds k others, so the mean is k
    variance = float(deviation.square().mean())
    return Hubness(
        k=k,
        skew=float(deviation.pow(3).mean()) / variance**1.5 if variance else math.nan,
        never_found=float((found == 0).double().mean()),
        hub_share=float(found[found >= 2 * k].sum()) / (count * k),
        most_found=int(found.max()),
        most_found_row=int(found.argmax()),
        row_count=count,
    )
