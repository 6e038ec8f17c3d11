"""How evenly rows fill the sphere, by all pairs of some of them.   Wang & Isola 2020: https://arxiv.org/abs/2005.10242"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.diagnostics.scale import power_of_two

UNIFORMITY_ROWS = 2048
"""The most rows whose pairs are used, evenly spaced: our choice."""


def uniformity(rows: Float[Tensor, "rows width"]) -> float:
    """log of the mean of e^{−2‖z − z'‖²} over pairs of at most `UNIFORMITY_ROWS` rows, evenly spaced."""
    if len(rows) < 2:
        return math.nan
    some = rows.detach()[evenly_spaced(len(rows)).to(rows.device)]
    kind = torch.promote_types(some.dtype, torch.float32)
    unit = power_of_two(some)
    some = some.double() / unit
    some -= some.mean(dim=0)
    closer = power_of_two(some)
    distances = torch.pdist((some / closer).to(kind)).double().mul_(closer).mul_(unit)
    # the mean of exponentials in logs: far pairs underflow one by one
    return float((-2 * distances.square_()).logsumexp(dim=0)) - math.log(len(distances))


def evenly_spaced(count: int) -> Int[Tensor, " picked"]:
    picked = min(count, UNIFORMITY_ROWS)
    return torch.arange(picked) * (count - 1) // (picked - 1)
