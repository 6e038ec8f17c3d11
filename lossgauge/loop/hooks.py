"""Hooks on a loss or a network, which a copy of it does not have.

Without this, `copy.deepcopy(criterion)` and `torch.save(criterion)` would take the whole probe with them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossgauge.distributed.gathered_loss import Gathered
from lossgauge.losses.base import Loss
from lossgauge.losses.pairs import PairForm
from lossgauge.types import Evaluation

OnOutput = Callable[[tuple[Any, ...], Any], None]
"""Gets the positional arguments of a call and what it returned."""

OnEvaluation = Callable[[tuple[Any, ...], Evaluation], None]


def after_forward(module: nn.Module, on_output: OnOutput) -> Callable[[], None]:
    """Call `on_output` after each call of `module`; returns what takes the hook away."""
    hook = _AfterForward(on_output)
    return module.register_forward_hook(hook, with_kwargs=True).remove


def unwrapped_loss(module: nn.Module) -> nn.Module:
    """The loss inside torch.compile and DistributedDataParallel, which may be a gathered one."""
    while True:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def after_evaluation(loss: Loss | Gathered, on_evaluation: OnEvaluation) -> Callable[[], None]:
    """Call `on_evaluation` with each Evaluation that `loss` computes, also in its `forward`; returns what ends this.

    The inputs are those of this rank, and the Evaluation of a gathered loss is of all ranks. Nothing is computed twice. `Loss` itself knows no observers: its code is part of the id of every run of a study.
    """
    attributes = vars(loss)
    if "_evaluate" not in attributes:
        watched = _Evaluate(loss, [])
        attributes["_evaluate"] = watched.evaluate
        if isinstance(loss, PairForm):
            attributes["_evaluate_pairs"] = watched.evaluate_pairs
    observers = attributes["_evaluate"].__self__.observers
    observers.append(on_evaluation)

    def remove() -> None:
        observers.remove(on_evaluation)
        if not observers:
            del attributes["_evaluate"]
            attributes.pop("_evaluate_pairs", None)

    return remove


def is_in_backward() -> bool:
    """Whether autograd is running: what is called then is a recomputation, as gradient checkpointing makes it."""
    inside: bool = torch._C._current_graph_task_id() != -1
    return inside


class _AfterForward:
    def __init__(self, on_output: OnOutput) -> None:
        self.on_output = on_output

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if torch.compiler.is_compiling():
            torch.compiler.disable(self._seen)(module, args, kwargs, output)
        else:
            self._seen(module, args, kwargs, output)

    def _seen(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        self.on_output(positional(module.forward, args, kwargs), output)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return _ignore

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _ignored, ()


class _Evaluate:
    def __init__(self, loss: Loss | Gathered, observers: list[OnEvaluation]) -> None:
        self.loss, self.observers = loss, observers

    def evaluate(self, embeddings: Any, labels: Any, *outcome_of: Any) -> Evaluation:
        compute: Callable[..., Evaluation] = type(self.loss)._evaluate
        evaluation = compute(self.loss, embeddings, labels, *outcome_of)
        for observer in self.observers:
            observer((embeddings, labels), evaluation)
        return evaluation

    def evaluate_pairs(self, queries: Any, documents: Any, *masks: Any) -> Evaluation:
        compute: Callable[..., Evaluation] = type(self.loss)._evaluate_pairs  # type: ignore[union-attr]
        evaluation = compute(self.loss, queries, documents, *masks)
        for observer in self.observers:
            observer((queries, documents), evaluation)
        return evaluation

    def __deepcopy__(self, memo: dict[int, Any]) -> _Evaluate:
        return _Evaluate(memo[id(self.loss)], [])

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _Evaluate, (self.loss, [])


def positional(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """All arguments of a call in the order of its signature."""
    if not kwargs:
        return args
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return (*args, *kwargs.values())
    bound.apply_defaults()
    return (*bound.args, *bound.kwargs.values())


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors among arguments, also in lists and tuples."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in tensors_in(value)]
    return []


def _ignore(*_: Any) -> None:
    return None


def _ignored() -> Callable[..., None]:
    return _ignore
