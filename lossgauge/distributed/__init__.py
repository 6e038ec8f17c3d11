"""Losses and diagnostics over the batches of all processes (ranks) of `torch.distributed`.

`gathered(loss)` is the loss of the whole batch, with its exact gradient. The other functions give the numbers of one process for rows that
lie on many ranks. Each is called by every rank of the group, in the same order, like any collective operation.
"""

from lossgauge.distributed.evaluation import (
    all_rows,
    geometry,
    merged_evaluation,
    merged_moments,
    own_rows,
)
from lossgauge.distributed.gathered_loss import Gathered, gathered

__all__ = [
    "Gathered",
    "all_rows",
    "gathered",
    "geometry",
    "merged_evaluation",
    "merged_moments",
    "own_rows",
]
