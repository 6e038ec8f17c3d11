"""Rules for what a training loop gives the probe: each broken one is one clear error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.batch import _as_tensor
from lossgauge.errors import InputError

SENTENCE_EMBEDDING = "sentence_embedding"
"""The key under which a model of sentence-transformers returns its embeddings."""


def check_embeddings(embeddings: Any, *, may_be_empty: bool = False) -> Tensor:
    """The embeddings of a batch: rows of floats that a gradient can reach. Raises InputError.

    They may be empty, (0, width), if the loss compares the rows of several ranks.
    """
    if not isinstance(embeddings, Tensor):
        raise InputError(
            f"the embeddings must be the tensor that the model returned, got {_kind(embeddings)}"
        )
    if (
        embeddings.layout != torch.strided
        or embeddings.is_meta
        or not embeddings.is_floating_point()
        or embeddings.ndim == 0
        or (embeddings.numel() == 0 and not (may_be_empty and embeddings.shape[:1] == (0,)))
    ):
        raise InputError(
            "the embeddings must be a dense (rows, width) tensor of floats, got shape "
            f"{tuple(embeddings.shape)} of {embeddings.dtype}, {embeddings.layout} on {embeddings.device}"
        )
    if not embeddings.requires_grad:
        raise InputError(
            "the embeddings have no graph, so no gradient can reach them: they were computed under torch.no_grad(), "
            "detached, or by a model that is frozen. Give the probe the tensor that the model returned in training; "
            "for evaluation there is probe.epoch(embeddings, labels)"
        )
    return embeddings


def check_labels(labels: Any, embeddings: Tensor) -> Int[Tensor, " batch"]:
    """The labels of a batch: one integer for each row, on the device of the embeddings. Raises InputError."""
    if embeddings.ndim != 2:
        raise InputError(
            f"embeddings with labels must have the shape (rows, width), got {tuple(embeddings.shape)}"
        )
    numbers = _as_tensor(labels, "labels", "integers")
    if numbers.ndim != 1:
        raise InputError(
            f"labels must be one integer per row, got shape {tuple(numbers.shape)}; with several labels per item, "
            "or targets that are no classes, call probe.embeddings(embeddings) without labels"
        )
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise InputError(
            f"labels must be integers, got {numbers.dtype}; for targets that are no classes call "
            "probe.embeddings(embeddings) without labels"
        )
    if len(numbers) != len(embeddings):
        raise InputError(
            f"embeddings and labels must have one row for each sample, got {len(embeddings)} embeddings and "
            f"{len(numbers)} labels"
        )
    if isinstance(labels, Tensor) and labels.device != embeddings.device:
        raise InputError(
            f"labels must be on the device of the embeddings, {embeddings.device}, got {labels.device}; "
            f"move them with labels.to({str(embeddings.device)!r})"
        )
    return numbers


def labels_among(inputs: Sequence[Any], size: int) -> Int[Tensor, " batch"] | None:
    """What a loss was called with as labels: its second input, if that is one integer for each of `size` rows."""
    labels = inputs[1] if len(inputs) > 1 else None
    if (
        not isinstance(labels, Tensor)
        or labels.shape != (size,)
        or labels.dtype == torch.bool
        or labels.is_floating_point()
        or labels.is_complex()
    ):
        return None
    return labels


def check_value(value: Any, name: str) -> Tensor:
    """The value of a loss: one number. Raises InputError, which says how to choose it."""
    choose = {
        True: "probe.loss(lambda *inputs: criterion(*inputs)['loss'])",
        False: "probe.loss(lambda *inputs: criterion(*inputs)[0])",
    }
    if isinstance(value, Mapping | list | tuple):
        raise InputError(
            f"the loss {name!r} must return one number, got a {_kind(value)}; choose the number that is trained, as in "
            f"criterion = {choose[isinstance(value, Mapping)]}"
        )
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = (
            f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else _kind(value)
        )
        raise InputError(
            f"the loss {name!r} must return one number as a tensor, got {what}; reduce it, as in "
            "criterion = probe.loss(lambda *inputs: criterion(*inputs).mean())"
        )
    return value


def output_embeddings(output: Any) -> Tensor:
    """The embeddings in what a model returned: a tensor, or `sentence_embedding` of a dict. Raises InputError."""
    if isinstance(output, Mapping) and SENTENCE_EMBEDDING in output:
        output = output[SENTENCE_EMBEDDING]
    if not isinstance(output, Tensor):
        raise InputError(
            f"model= must return a tensor or a dict with {SENTENCE_EMBEDDING!r}, got {_kind(output)}; give the module "
            "whose output the loss uses, or call probe.embeddings in the loop"
        )
    return output


def as_rows(tensor: Float[Tensor, "..."]) -> Float[Tensor, "batch width"]:
    """A tensor as rows: its first dimension are the samples."""
    return tensor[:, None] if tensor.ndim == 1 else tensor.flatten(1)


def _kind(value: Any) -> str:
    return f"{type(value).__name__}" + (
        f" with {', '.join(map(repr, list(value)[:4]))}" if isinstance(value, Mapping) else ""
    )
