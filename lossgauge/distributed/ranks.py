"""The processes (ranks) of a group, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from lossgauge.errors import InputError

Group = Any
"""A process group of `torch.distributed`; None is the default group."""

T = TypeVar("T")


def rank_count(group: Group = None) -> int:
    """The number of ranks; 1 without an initialised process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    count = dist.get_world_size(group)
    if count < 1:
        raise InputError(
            "this process is not in the given group; call it on the group's ranks only"
        )
    return count


def own_rank(group: Group = None) -> int:
    """The number of this process in the group; 0 without an initialised process group."""
    return dist.get_rank(group) if rank_count(group) > 1 else 0


def exchanged(compute: Callable[[], T], group: Group = None) -> list[T]:
    """The results of `compute` on all ranks, in their order. Tensors are on the CPU, or on the device that the rank has them on.

    If it raises InputError on one rank, every rank raises it, so that no rank waits for another one.
    """
    if rank_count(group) == 1:
        return [compute()]
    result: T | InputError
    try:
        result = compute()
    except InputError as error:
        result = error
    results: list[Any] = [None] * rank_count(group)
    dist.all_gather_object(results, result, group=group)
    for rank, other in enumerate(results):
        if isinstance(other, InputError):
            raise InputError(f"rank {rank}: {other}")
    return results


def agreed(compute: Callable[[], T], group: Group = None) -> T:
    """The own result of `compute`, which stays on this rank. If it raises InputError on one rank, every rank raises it."""
    own: list[T] = []
    exchanged(lambda: own.append(compute()), group)
    return own[0]
