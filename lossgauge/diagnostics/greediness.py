"""GREEDINESS: how a loss uses its updates: how many are active, how strong they are, and how fast it converges.

arXiv 2601.21450 for active ratio, gradient norm and loss decay. `docs/definitions.md` has the rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

GRADIENT_SHARES = {
    "gradient_active_ratio_low": 0.001,
    "gradient_active_ratio": 0.01,
    "gradient_active_ratio_high": 0.1,
}
"""Thresholds of the gradient rule: the share of g₀ above which a sample counts as active. 1 % is our choice."""

START_STEPS = 10
"""The number of first steps of a run that g₀ is computed from."""


def start_gradient(norms: Float[Tensor, " samples"]) -> float:
    """g₀: the median per-sample gradient norm of the first steps; NaN where no sample has a gradient.

    Only over samples with a gradient: N-pair uses two samples per class, so a median over all samples would be 0.
    """
    alive = norms[norms > 0]
    return float(alive.median()) if len(alive) else math.nan


def gradient_active_ratio(
    norms: Float[Tensor, " samples"], *, start: float, share: float = 0.01
) -> float:
    """Share of samples whose gradient norm is above `share` of `start` (g₀), in [0, 1].

    Unlike the term rule, it changes during training for every loss. NaN without g₀.
    """
    return math.nan if math.isnan(start) else int((norms > share * start).sum()) / len(norms)


def tangent(
    gradient: Float[Tensor, "batch width"], unit: Float[Tensor, "batch width"]
) -> Float[Tensor, "batch width"]:
    """The part of a gradient at unit rows that can rotate them: normalisation removes the radial part."""
    along = torch.linalg.vecdot(gradient, unit)[:, None]
    return torch.addcmul(gradient, unit, along, value=-1)


def gradient_norms(parameters: Sequence[Tensor]) -> list[Float[Tensor, ""]]:
    """The norm of each existing gradient; `math.hypot` of these is the norm over all parameters."""
    return [torch.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None]


def decay_epochs(
    losses: Sequence[float], *, share: float = 0.1, floor: float = 0.0
) -> float | None:
    """Epochs until the loss minus `floor` is at most `share` of its first value; None if never, or not defined.

    It is not defined for a loss with values below `floor`, such as NSCL's below 0: there a share of the first value says nothing.

    `losses[0]` is before training, `losses[e]` the mean over epoch e. Interpolated linearly between two
    epochs. With the lowest loss as `floor`, it also works for losses that cannot reach 0 (SCL ≥ log|P|).
    """
    above = [loss - floor for loss in losses]
    if above[0] <= 0 or any(loss < 0 for loss in above):
        return None
    return _crossing(above, share * above[0])


def why_no_decay(losses: Sequence[float], *, surrogate: str = "") -> str:
    """Why the decay to a share of the first value is not defined; empty if it is. `surrogate` is the reason that such a loss gives."""
    if surrogate:
        return f"the value does not show progress: {surrogate}"
    if any(loss < 0 for loss in losses):
        return "the loss has negative values, so a share of its first value is no goal"
    return ""


def compaction_epochs(intra: Sequence[float], *, share: float = 0.9) -> float | None:
    """Epochs until intra-class variance has done `share` of its total fall; None if it did not fall.

    `intra[0]` is before training. Interpolated linearly between two epochs.
    """
    fall = intra[0] - intra[-1]
    return _crossing(intra, intra[0] - share * fall) if fall > 0 else None


def _crossing(values: Sequence[float], level: float) -> float | None:
    """The position where `values`, joined by lines, first fall to `level`; NaN values never do."""
    for index, value in enumerate(values):
        if value <= level:
            if index == 0:
                return 0.0
            before = values[index - 1]
            return index - 1 + (before - level) / (before - value)
    return None
