"""Which rows make which batch: a pure function of seed and epoch, so every loss of a seed sees the same."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lossgauge.errors import InputError


def random_batches(
    rows: Int[Tensor, " rows"], *, batch_size: int, seed: int, epoch: int
) -> list[Int[Tensor, " batch"]]:
    """`rows` shuffled and cut into full batches; a remainder is dropped, since active ratios depend on the size.

    Fewer rows than `batch_size` make one batch of all of them.
    """
    if batch_size < 2:
        raise InputError(
            f"a batch needs at least two samples to compare, got batch_size={batch_size}"
        )
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    shuffled = rows[torch.from_numpy(order)]
    size = min(batch_size, len(rows))
    return list(shuffled[: len(rows) // size * size].split(size))
