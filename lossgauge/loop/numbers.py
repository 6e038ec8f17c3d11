"""Many small tensors as numbers, with one wait for the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

Numbers = npt.NDArray[Any]


def read_all(tensors: Iterable[Tensor]) -> Callable[[Tensor], Numbers]:
    """A function that gives each of these tensors as a flat array: floats as float64, integers as they are.

    The tensors must be alive while it is used. One copy for each device and type, however many tensors there are.
    """
    groups: dict[tuple[torch.device, torch.dtype], dict[int, Tensor]] = defaultdict(dict)
    for tensor in tensors:
        groups[tensor.device, tensor.dtype][id(tensor)] = tensor
    arrays: dict[int, Numbers] = {}
    for group in groups.values():
        flat = [tensor if tensor.ndim == 1 else tensor.reshape(-1) for tensor in group.values()]
        whole = torch.cat(flat).detach().cpu()
        numbers = (whole.double() if whole.is_floating_point() else whole).numpy()
        end = 0
        for key, part in zip(group, flat, strict=True):
            start, end = end, end + len(part)
            arrays[key] = numbers[start:end]
    return lambda tensor: arrays[id(tensor)]
