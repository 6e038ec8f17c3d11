"""The parameters of an optimiser: their gradients after backward, and again just before the update, after clipping.

A fused optimiser gets scaled gradients, and is called on skipped steps as well: `optimizer.grad_scale` and
`optimizer.found_inf` say so. Every other one gets gradients that the scaler has divided already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lossgauge.errors import InputError
from lossgauge.loop.parameter_gradients import gradient_norms, is_sharded, widest
from lossgauge.loop.records import OfOptimizer

_FRAMES = 16
"""How many callers of `optimizer.step` are looked at for a scaler."""


class WatchedOptimizer:
    """What the probe knows of one optimiser since its last update."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.loss_parameters: set[int] = set()
        """Ids of the parameters that belong to a loss."""
        self.update_count = 0
        """Updates until one had a learning rate above 0."""
        self.had_rate = False
        """Whether a group had a learning rate other than 0 at an update."""
        self.factors: list[tuple[int, Tensor]] = []
        self._norms: dict[str, Float[Tensor, " parts"] | None] = {}
        self._unscaled_by: Float[Tensor, ""] | None = None
        self._found_inf: Float[Tensor, ""] | None = None
        self._marks: list[int | None] = []
        self._had_gradients: list[Tensor] = []

    def parameters(self) -> Iterator[Tensor]:
        """All of them, also those that were added later."""
        for group in self.optimizer.param_groups:
            yield from group["params"]

    def before_backward(self) -> None:
        """Remember which gradients exist, to see what the backward pass adds."""
        self._marks = [_mark(parameter) for parameter in self.parameters()]

    def got_gradients(self) -> bool:
        """Whether the backward pass has added to the gradient of a parameter: `torch.autograd.grad` adds to none."""
        return any(
            _mark(parameter) != mark or (mark is not None and is_sharded(parameter))
            for parameter, mark in zip(self.parameters(), self._marks, strict=False)
        ) or any(is_sharded(parameter) for parameter in self.parameters())

    def has_gradients(self) -> bool:
        """Whether any parameter has a gradient, from whatever loss."""
        return any(parameter.grad is not None for parameter in self.parameters())

    def note_rate(self) -> None:
        """Before each update: whether it can move a parameter. A rate that is a tensor of a GPU is not read."""
        if not self.had_rate:
            self.update_count += 1
            self.had_rate = any(_may_move(group.get("lr")) for group in self.optimizer.param_groups)

    def after_backward(self, factors: Sequence[tuple[int, Tensor]]) -> None:
        """Read the gradients as they are before any clipping."""
        self.factors += factors
        head, own = self._split()
        self._norms["head"], self._norms["loss"] = gradient_norms(head), gradient_norms(own)
        self._had_gradients = [p for p in self.parameters() if p.grad is not None]
        self._marks = [_mark(parameter) for parameter in self._had_gradients]

    def is_cleared(self) -> bool:
        """Whether all gradients that the last backward pass left have been cleared since, without an update.

        Gradients that were set to zero in place are read, which waits for a GPU; this happens after skipped steps only.
        """
        left = self._had_gradients
        if not left or not self.factors:
            return False
        changed = [
            _mark(parameter) != mark for parameter, mark in zip(left, self._marks, strict=True)
        ]
        return all(changed) and not any(
            parameter.grad is not None and bool(_local(parameter.grad).any()) for parameter in left
        )

    def before_update(self, scaler: Any) -> None:
        """Read the gradients that the update uses, and what they are scaled by."""
        head, own = self._split()
        self._norms["clipped_head"], self._norms["clipped_loss"] = (
            gradient_norms(head),
            gradient_norms(own),
        )
        self._found_inf = getattr(self.optimizer, "found_inf", None)
        scaler = _running_scaler() if scaler is None else scaler
        if getattr(self.optimizer, "grad_scale", None) is not None:
            self._unscaled_by = torch.ones(())  # they are still scaled: the optimiser divides them
        elif scaler is not None:
            near = next((p.grad for p in self.parameters() if p.grad is not None), torch.ones(()))
            self._unscaled_by = scaler.scale(torch.ones((), device=near.device))

    def take(self) -> OfOptimizer:
        """What was seen since the last update; the next one begins."""
        norms = self._norms
        taken = OfOptimizer(
            factors=self.factors,
            head_norms=norms.get("head"),
            loss_norms=norms.get("loss"),
            clipped_head_norms=norms.get("clipped_head"),
            clipped_loss_norms=norms.get("clipped_loss"),
            unscaled_by=self._unscaled_by,
            found_inf=self._found_inf,
        )
        self.factors, self._norms, self._had_gradients = [], {}, []
        self._unscaled_by = self._found_inf = None
        return taken

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        head: list[Tensor] = []
        own: list[Tensor] = []
        for parameter in self.parameters():
            (own if id(parameter) in self.loss_parameters else head).append(parameter)
        return head, own


def checksums(
    modules: Iterable[nn.Module | None], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[int, Float[Tensor, "2"]]:
    """By id, sum and norm of the parameters of modules that no optimiser has: they tell whether another one changes them.

    Without waiting for a GPU. Costs nothing where the optimisers have all of them.
    """
    trained = {id(p) for of in optimizers for group in of.param_groups for p in group["params"]}
    return {
        id(parameter): _checksum(parameter)
        for module in modules
        if module is not None
        for parameter in module.parameters()
        if parameter.requires_grad and id(parameter) not in trained
    }


def _checksum(parameter: Tensor) -> Float[Tensor, "2"]:
    values = _local(parameter.detach())
    wide = widest(values)
    return torch.stack((values.sum(dtype=wide), torch.linalg.vector_norm(values, dtype=wide)))


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser of torch inside the wrapper of a library, whose `step` is the one that is called.

    Raises InputError for anything else.
    """
    inner = optimizer
    for _ in range(4):
        wrapped = getattr(inner, "optimizer", None)
        if not isinstance(wrapped, torch.optim.Optimizer):
            break
        inner = wrapped
    if not isinstance(inner, torch.optim.Optimizer):
        raise InputError(
            f"the probe needs a torch.optim.Optimizer or a list of them, got {type(optimizer).__name__}"
        )
    return inner


def _running_scaler() -> torch.amp.GradScaler | None:
    """The GradScaler whose `step` is calling this optimiser, if there is one."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame.f_code.co_name == "step":
            caller = frame.f_locals.get("self")
            if isinstance(caller, torch.amp.GradScaler):
                return caller
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _mark(parameter: Tensor) -> int | None:
    """Changes with the gradient of a parameter: its version; None without one."""
    gradient = parameter.grad
    return None if gradient is None else gradient._version


def _may_move(rate: Any) -> bool:
    """Whether a learning rate may be other than 0; some optimisers have none."""
    if isinstance(rate, Tensor) and rate.device.type != "cpu":
        return True
    return rate is None or bool(rate != 0)


def _local(gradient: Tensor) -> Tensor:
    if is_sharded(gradient):
        sharded: Any = gradient
        local: Tensor = sharded.to_local()
        return local
    return gradient
