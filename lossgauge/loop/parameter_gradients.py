"""The norm of the gradient of many parameters, without waiting for the device: dense, sparse, half or sharded."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_norms(parameters: Iterable[Tensor]) -> Float[Tensor, " parts"] | None:
    """The norms of all existing gradients, whose norm is that over all parameters; None where no parameter has one.

    In float32 or float64, on the device of the first gradient. Sharded gradients (DTensor) have one norm, over all ranks,
    for each way of sharding: one small all-reduce, so every rank must call it.
    """
    whole: list[Tensor] = []
    sharded: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        if is_sharded(gradient):
            dtensor: Any = gradient
            if any(placement.is_partial() for placement in dtensor.placements):
                whole.append(dtensor.full_tensor())
            else:
                layout = (dtensor.device_mesh, dtensor.placements)
                sharded[layout].append(dtensor.to_local())
        else:
            whole.append(gradient.coalesce().values() if gradient.is_sparse else gradient)
    norms = _norms(whole)
    for (mesh, placements), shards in sharded.items():
        squares = torch.linalg.vector_norm(torch.stack(_norms(shards))).square()
        for dimension, placement in enumerate(placements):
            if placement.is_shard():
                torch.distributed.all_reduce(squares, group=mesh.get_group(dimension))
        norms.append(squares.sqrt())
    if not norms:
        return None
    return torch.stack(norms) if len(norms) > 1 else norms[0].reshape(1)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor. Its module is not imported: who has a DTensor has imported it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _norms(gradients: Sequence[Tensor]) -> list[Float[Tensor, ""]]:
    """The norm of each gradient, all of one type and on one device."""
    if not gradients:
        return []
    kinds = {(gradient.dtype, gradient.device) for gradient in gradients}
    if len(kinds) == 1 and gradients[0].dtype in (torch.float32, torch.float64):
        return list(torch._foreach_norm(list(gradients)))
    wide = torch.float64 if any(dtype == torch.float64 for dtype, _ in kinds) else torch.float32
    return [
        torch.linalg.vector_norm(gradient, dtype=wide).to(gradients[0].device, non_blocking=True)
        for gradient in gradients
    ]
