"""The batch of all ranks on every rank, with its gradient.

The ranks' batches may have different sizes: they are padded to the largest one, and the padding is removed after the exchange.
Only `all_gather` and `reduce_scatter` of lists are used: they are public, and have no warning, in torch 2.10 to 2.13.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.distributed.ranks import Group, rank_count
from lossgauge.errors import InputError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class RankBatches(NamedTuple):
    """The batches of all ranks, one after the other in the order of ranks."""

    embeddings: Float[Tensor, "batch width"]
    """With a graph to this rank's rows. Backward adds up the gradients that the ranks have at a row."""
    labels: Int[Tensor, " batch"]
    sizes: tuple[int, ...]
    """Rows of each rank."""


class _Announced(NamedTuple):
    """What a rank says about its batch before any rows are exchanged."""

    is_valid: int
    rows: int
    width: int
    float_type: int
    requires_grad: int


def rank_batches(embeddings: ArrayLike, labels: ArrayLike, group: Group = None) -> RankBatches:
    """The batches of all ranks. A rank may have no rows: embeddings of shape (0, width).

    If the batch of one rank breaks a rule of `as_batch`, or the widths or types of ranks differ, every rank raises InputError; so no
    rank waits for another one. Three exchanges: sizes, labels and rows; on a GPU the first one waits for the device.
    """
    if rank_count(group) == 1:
        rows, numbers = as_batch(embeddings, labels)
        return RankBatches(rows, numbers, (len(rows),))
    failure: InputError | None = None
    try:
        rows, numbers = checked_rows(embeddings, labels)
    except InputError as error:
        failure = error
        rows = torch.empty(0, 0, device=getattr(embeddings, "device", "cpu"))
        numbers = torch.empty(0, dtype=torch.long, device=rows.device)
    announced = _announce(rows, is_valid=failure is None, group=group)
    if failure is not None:
        raise failure
    _check_alike(announced)
    if any(rank.requires_grad for rank in announced) and not rows.requires_grad:
        # this rank takes part in the exchange of gradients, although it has no use for its own
        rows = rows.detach().requires_grad_(torch.is_grad_enabled())
    sizes = tuple(rank.rows for rank in announced)
    longest = max(sizes)
    return RankBatches(
        _without_padding(_AllGather.apply(pad(rows, (0, 0, 0, longest - len(rows))), group), sizes),
        _without_padding(_all_gather(pad(numbers, (0, longest - len(rows))), group), sizes),
        sizes,
    )


class _AllGather(torch.autograd.Function):
    """The blocks of all ranks; the gradient at a block is the sum over the gradients that ranks have at it."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, group: Group) -> tuple[Tensor, ...]:
        ctx.group = group
        return _all_gather(block, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        own = torch.empty_like(gradients[0], memory_format=torch.contiguous_format)
        dist.reduce_scatter(own, [part.contiguous() for part in gradients], group=ctx.group)
        return own, None


def _all_gather(block: Tensor, group: Group) -> tuple[Tensor, ...]:
    block = block.contiguous()
    blocks = [torch.empty_like(block) for _ in range(rank_count(group))]
    dist.all_gather(blocks, block, group=group)
    return tuple(blocks)


def _without_padding(blocks: tuple[Tensor, ...], sizes: tuple[int, ...]) -> Tensor:
    return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)])


def checked_rows(embeddings: ArrayLike, labels: ArrayLike) -> tuple[Tensor, Tensor]:
    """The result of `as_batch`, which here also accepts embeddings of shape (0, width)."""
    if not (isinstance(embeddings, Tensor) and embeddings.ndim == 2 and len(embeddings) == 0):
        return as_batch(embeddings, labels)
    numbers = torch.as_tensor(labels, device=embeddings.device)
    if numbers.numel():
        raise InputError(f"a rank without rows has no labels, got {numbers.numel()} labels")
    return embeddings, numbers.flatten().long()


def _announce(rows: Tensor, *, is_valid: bool, group: Group) -> list[_Announced]:
    float_type = _FLOATS.index(rows.dtype) if rows.dtype in _FLOATS else -1
    count, width = rows.shape
    own = _Announced(int(is_valid), count, width, float_type, int(rows.requires_grad))
    gathered = _all_gather(torch.tensor(own, device=rows.device), group)
    return [_Announced(*rank) for rank in torch.stack(gathered).tolist()]


def _check_alike(announced: list[_Announced]) -> None:
    for number, rank in enumerate(announced):
        if not rank.is_valid:
            raise InputError(
                f"the batch of rank {number} breaks a rule; the error of that rank says which one"
            )
    widths = [rank.width for rank in announced]
    if len(set(widths)) > 1:
        raise InputError(
            f"the embeddings of all ranks must have one width, got the widths {widths}; "
            "a rank without rows gives embeddings of shape (0, width)"
        )
    types = [str(_FLOATS[rank.float_type]) for rank in announced]
    if len(set(types)) > 1:
        raise InputError(
            f"the embeddings of all ranks must have one type, got {', '.join(types)}; "
            "use autocast on all ranks, or on none"
        )
