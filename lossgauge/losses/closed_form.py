"""One autograd node for a gradient that is already known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossgauge.errors import InputError


class ClosedFormGradient(torch.autograd.Function):
    """A scalar whose gradient at each input is already known, up to one factor."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, scale: float, gradients: list[Tensor], *inputs: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.scale = scale
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Tensor:
        raise InputError("this loss has no forward-mode derivative; call backward()")

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # With create_graph the gradient would be a constant, and a penalty on it would be
        # ignored without an error.
        if torch.is_grad_enabled():
            raise InputError(
                "this loss can be differentiated only once: its gradient is computed in closed form, without "
                "an autograd graph; call backward without create_graph=True"
            )
        factor = upstream * ctx.scale
        return (
            None,
            None,
            None,
            *(
                (factor * gradient).to(dtype)
                for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
            ),
        )
