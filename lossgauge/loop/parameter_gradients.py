"""The norm of the gradient of many parameters, without waiting for the device: dense, sparse, half or sharded."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_norms(parameters: Iterable[Tensor]) -> Float[Tensor, " parts"] | None:
    """The norms of all existing gradients, whose norm is that over all parameters; None where no parameter has one.

    In float32 or float64, on the device of the first gradient; a scale such as 2⁶⁶ or 1e-22 does not change them. Sharded gradients (DTensor) have one norm, over all ranks,
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
    norms = [_norms(whole)] if whole else []
    for (mesh, placements), shards in sharded.items():
        local = _norms(shards)
        squares = torch.linalg.vector_norm(local, dtype=widest(local)).square()
        for dimension, placement in enumerate(placements):
            if placement.is_shard():
                torch.distributed.all_reduce(squares, group=mesh.get_group(dimension))
        norms.append(squares.sqrt().reshape(1))
    if not norms:
        return None
    return torch.cat(norms) if len(norms) > 1 else norms[0]


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor. Its module is not imported: who has a DTensor has imported it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _norms(gradients: Sequence[Tensor]) -> Float[Tensor, " parts"]:
    """The norm of each gradient, of one type and on the device of the first."""
    first = gradients[0]
    on_cpu = all(gradient.device.type == "cpu" for gradient in gradients)
    kinds = {(gradient.dtype, gradient.device) for gradient in gradients}
    if len(kinds) == 1 and first.dtype in (torch.float32, torch.float64):
        added_in = first.dtype if on_cpu else widest(first)
        norms = list(torch._foreach_norm(list(gradients), 2, added_in))
    else:
        some_wide = any(dtype == torch.float64 for dtype, _ in kinds)
        added_in = (torch.float64 if some_wide else torch.float32) if on_cpu else widest(first)
        norms = [
            torch.linalg.vector_norm(gradient, dtype=added_in).to(first.device, non_blocking=True)
            for gradient in gradients
        ]
    together = torch.stack(norms) if len(norms) > 1 else norms[0].reshape(1)
    return _safe_norms(gradients, together) if on_cpu else together


def widest(tensor: Tensor) -> torch.dtype:
    """The type in which squares are added on a GPU: its sums wait for the memory, so float64 costs nothing more."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no float64


_SAFE = {torch.float32: 1e-12, torch.float64: 1e-140}
"""Norms below this have squares that are lost, or nearly: a loss that is multiplied by 1e-20 has such gradients."""


def _safe_norms(
    gradients: Sequence[Tensor], norms: Float[Tensor, " parts"]
) -> Float[Tensor, " parts"]:
    """On a CPU adding in float64 is slower, so only those are computed again whose squares were too large or too small."""
    least = _SAFE[norms.dtype]
    wrong = [n for n, size in enumerate(norms.tolist()) if not least <= size < math.inf]
    if wrong:
        norms = norms.double()
        for n in wrong:
            norms[n] = _scaled_norm(gradients[n])
    return norms


def _scaled_norm(gradient: Tensor) -> float:
    largest = float(torch.linalg.vector_norm(gradient, math.inf))
    if not 0 < largest < math.inf:  # a gradient of zeros is frequent, and costs no copy
        return largest
    return float(torch.linalg.vector_norm(gradient.double() / largest)) * largest
