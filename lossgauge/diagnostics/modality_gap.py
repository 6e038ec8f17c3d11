"""The modality gap: how far apart the means of queries and documents are. Liang et al. 2022: https://arxiv.org/abs/2203.02053"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from lossgauge.diagnostics.moments import Moments, overall_mean


class ModalityGap(NamedTuple):
    """Of unit vectors. Without a classifier: it needs the two means only."""

    distance: float
    """‖mean of the queries − mean of the documents‖, in [0, 2]."""
    share: float
    """distance² over the mean squared distance of a query and a document, in [0, 1]: what is the same for all pairs. NaN if all
    rows are at one point."""
    between: float
    """Mean cosine of a query and a document."""


def modality_gap(queries: Moments, documents: Moments) -> ModalityGap:
    """The gap from the moments of both sides, whose rows are unit vectors."""
    one, other = overall_mean(queries), overall_mean(documents)
    squared = float((one - other).square().sum())
    between = float(torch.dot(one, other))
    # unit vectors: the mean of ‖q − d‖² is 2 − 2·(mean q)·(mean d)
    mean_squared = 2 - 2 * between
    share = min(squared / mean_squared, 1.0) if mean_squared > 1e-14 else math.nan
    return ModalityGap(math.sqrt(squared), share, between)
