"""Linear CKA: how alike two spaces are on the same rows, up to rotation and scale.

Kornblith, Norouzi, Lee, Hinton 2019, arXiv 1905.00414: ‖YᵀX‖²/(‖XᵀX‖·‖YᵀY‖) of centred rows, with Frobenius norms.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.diagnostics.scale import power_of_two
from lossgauge.errors import InputError


def linear_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Similarity of two embeddings of the same rows, in [0, 1]; their widths may differ. Computed in float64.

    1: equal up to rotation, shift and one scale. Two random spaces of width d over n rows have about d/(n + d), so use many more rows than
    columns. NaN if one side does not vary. Time grows as rows × width × the smaller of the two, memory as the square of the
    smaller one. Raises InputError for other numbers of rows, fewer than two rows, and what is empty or not finite.
    """
    sides = [_centered(name, rows) for name, rows in (("first", first), ("second", second))]
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"CKA compares embeddings of the same rows, got {len(sides[0])} and {len(sides[1])}"
        )
    if len(sides[0]) < 2:
        raise InputError("CKA needs at least two rows, got 1")
    x, y = sides
    if not (x.any() and y.any()):
        return math.nan
    if len(x) < max(x.shape[1], y.shape[1]):
        of_x, of_y = x @ x.T, y @ y.T
        return float((of_x / of_x.norm()).flatten() @ (of_y / of_y.norm()).flatten())
    return float((y.T @ x).square().sum() / (x.T @ x).norm() / (y.T @ y).norm())


def _centered(name: str, given: ArrayLike) -> Float64[Tensor, "rows width"]:
    """Rows around their mean, with a largest entry of about 1; zeros where only rounding is left."""
    try:
        # every embedding of this package follows the rules of a batch; the labels are not used
        rows, _ = as_batch(given, np.zeros(np.shape(given)[:1], np.int64))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    exact = rows.detach().double()
    exact = exact / power_of_two(exact)
    centered = exact - exact.mean(dim=0)
    if float(centered.abs().max()) < 1e-14:
        return torch.zeros_like(centered)
    return centered / power_of_two(centered)
