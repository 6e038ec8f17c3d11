"""The embeddings of a loop that somebody else wrote: what its loss is called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossgauge.loop.hooks import positional
from lossgauge.loop.probe import Probe
from lossgauge.types import Record

OnInputs = Callable[[Tensor, Tensor | None], None]
"""Gets the embeddings, and one label for each row, or None if the second input is something else."""


class Follower:
    """Gives a probe what a loss is called with: batches that are trained at once, the others as the rows of the next epoch."""

    def __init__(self, probe: Probe, criterion: nn.Module) -> None:
        self.probe = probe
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._end = before_forward(criterion, self._take)

    def _take(self, embeddings: Tensor, labels: Tensor | None) -> None:
        if embeddings.requires_grad and torch.is_grad_enabled():
            self.probe.embeddings(embeddings, labels)
        elif labels is not None:
            self._rows.append((embeddings.detach().cpu(), labels.cpu()))

    def forget(self) -> None:
        """Drop the rows of the next epoch."""
        self._rows = []

    def end_epoch(self, ids: Sequence[int] | None = None) -> Record | None:
        """`probe.epoch` of the rows that were not trained since the last one; None without such rows. They come from all ranks.

        With `ids`, the index in its dataset of each row of this rank, a row that several ranks have counts once.
        """
        from lossgauge.distributed import all_rows
        from lossgauge.distributed.ranks import rank_count

        rows, self._rows = self._rows, []
        if not rows:
            return None
        embeddings, labels = (torch.cat(parts) for parts in zip(*rows, strict=True))
        if rank_count() > 1:
            known = None if ids is None or len(ids) < len(labels) else list(ids[: len(labels)])
            embeddings, labels = all_rows(embeddings, labels, ids=known)
        return self.probe.epoch(embeddings, labels)

    def close(self) -> None:
        """Take all hooks away. The rows of the probe stay."""
        self._end()
        self.probe.close()


def before_forward(module: nn.Module, on_inputs: OnInputs) -> Callable[[], None]:
    """Call `on_inputs` before each call of `module` with embeddings; returns what takes the hook away. A copy of the module has no hook."""
    hook = _BeforeForward(on_inputs)
    return module.register_forward_pre_hook(hook, with_kwargs=True).remove


class _BeforeForward:
    def __init__(self, on_inputs: OnInputs) -> None:
        self.on_inputs = on_inputs

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        match positional(module.forward, args, kwargs):
            case (Tensor() as embeddings, *others) if embeddings.ndim == 2:
                self.on_inputs(embeddings, _labels(others, rows=len(embeddings)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return _ignore

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _ignored, ()


def _labels(inputs: list[Any], *, rows: int) -> Tensor | None:
    match inputs:
        case [Tensor() as labels, *_] if (
            labels.ndim == 1
            and len(labels) == rows
            and not labels.is_floating_point()
            and labels.dtype != torch.bool
        ):
            return labels
    return None


def _ignore(*_: Any) -> None:
    return None


def _ignored() -> Callable[..., None]:
    return _ignore
