"""The numbers of one process for rows that lie on many ranks.

Counts and moments are merged, never averaged: the mean over ranks of a variance leaves out what lies between the ranks, and the mean of
ratios weights ranks and not rows. A sampler such as `DistributedSampler` repeats rows until each rank has the same number; with `ids`
(the index of each row in its dataset) a repeated row counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.diagnostics.moments import Moments, merge_all, moments
from lossgauge.diagnostics.uniformity import evenly_spaced
from lossgauge.diagnostics.uniformity import uniformity as uniformity_of
from lossgauge.diagnostics.variance import Geometry, geometry_of
from lossgauge.distributed.batches import checked_rows, rank_batches
from lossgauge.distributed.ranks import Group, agreed, exchanged, own_rank
from lossgauge.errors import InputError
from lossgauge.types import Evaluation


def geometry(
    embeddings: ArrayLike, labels: ArrayLike, *, ids: ArrayLike | None = None, group: Group = None
) -> Geometry:
    """`lossgauge.geometry` of the rows of all ranks, the same on every rank; each rank reads only its own rows.

    Equal to that of one process with the rows in the order of their ids (of ranks, without ids), to the rounding of float64. The
    ranks exchange class means, one width × width matrix, and at most 2,048 rows for the uniformity. A rank may have no rows.
    Raises InputError on every rank if one of them has rows that `geometry` refuses, or entries outside 1e-140 … 1e140.
    """
    (rows, numbers), places = _own_batch(embeddings, labels, ids, group)
    of_ranks = exchanged(lambda: _cpu(moments(rows, numbers)) if len(rows) else None, group)
    measured = geometry_of(_merged(of_ranks))
    every = torch.cat(exchanged(lambda: places, group)).sort().values
    sampled = torch.isin(places, every[evenly_spaced(len(every))])
    parts = exchanged(lambda: (places[sampled], rows[sampled.to(rows.device)].cpu()), group)
    order = torch.cat([of_rank for of_rank, _ in parts]).argsort()
    sample = torch.cat([of_rank for _, of_rank in parts if len(of_rank)])
    return replace(measured, uniformity=uniformity_of(sample[order]))


def merged_moments(moments: Moments | None, group: Group = None) -> Moments:
    """The moments of the rows of all ranks, on the CPU, from those of each rank: the same bits on every rank.

    None for a rank without rows. Drop rows that the sampler repeats before, with `own_rows`.
    """
    return _merged(exchanged(lambda: None if moments is None else _cpu(moments), group))


def merged_evaluation(evaluation: Evaluation, group: Group = None) -> Evaluation:
    """The evaluation of the mean of the ranks' own losses, which DDP trains without `gathered`.

    Counts are added up, anchors are joined in the order of ranks, and the value is the mean over ranks. Pull and push are the parts of
    the gradient of that mean: 1/ranks of those of a rank's own loss. Further numbers (`columns`) are means over
    anchors. The effective share does not follow from those of ranks: None.
    """
    plain = Evaluation._make(
        part.detach().cpu() if isinstance(part, Tensor) else part for part in evaluation
    )
    parts = exchanged(lambda: plain, group)

    def total(name: str) -> int | None:
        counts = [getattr(part, name) for part in parts]
        return None if None in counts else sum(counts)

    def joined(name: str) -> Tensor | None:
        anchors = [getattr(part, name) for part in parts]
        return None if any(part is None for part in anchors) else torch.cat(anchors)

    def mean(name: str) -> Tensor | None:
        if any(part.anchor_value is None or getattr(part, name) is None for part in parts):
            return None
        sizes = [len(part.anchor_value) for part in parts if part.anchor_value is not None]
        sums = [getattr(part, name) * size for part, size in zip(parts, sizes, strict=True)]
        return torch.stack(sums).sum() / sum(sizes) / len(parts)

    return Evaluation(
        value=torch.stack([part.value for part in parts]).mean(),
        term_count=total("term_count"),
        active_count=total("active_count"),
        skipped_anchors=total("skipped_anchors"),
        anchor_value=joined("anchor_value"),
        anchor_weight=joined("anchor_weight"),
        pull=mean("pull"),
        push=mean("push"),
        anchor_count=total("anchor_count"),
        columns=_mean_columns(parts),
    )


def _mean_columns(parts: Sequence[Evaluation]) -> dict[str, float]:
    """Each further number as its mean over the anchors that have a term, of all ranks."""
    values = [part.anchor_value for part in parts]
    anchors = [0 if of is None else int((~of.isnan()).sum()) for of in values]
    return {
        name: sum(part.columns[name] * size for part, size in zip(parts, anchors, strict=True))
        / max(sum(anchors), 1)
        for name in parts[0].columns
        if all(name in part.columns for part in parts)
    }


def own_rows(ids: ArrayLike, group: Group = None) -> Bool[Tensor, " rows"]:
    """Which of this rank's rows count: of rows with the same id, the first one, in the order of ranks."""
    of_ranks = exchanged(lambda: _as_ids(ids), group)
    start = sum(len(numbers) for numbers in of_ranks[: own_rank(group)])
    return _first(torch.cat(of_ranks))[start : start + len(of_ranks[own_rank(group)])]


def all_rows(
    embeddings: ArrayLike, labels: ArrayLike, *, ids: ArrayLike | None = None, group: Group = None
) -> tuple[Float[Tensor, "rows width"], Int[Tensor, " rows"]]:
    """The rows and labels of all ranks on every rank, without a graph: for retrieval, which compares all rows.

    In the order of their ids, each id once; without ids in the order of ranks. A rank may have no rows.
    """
    with torch.no_grad():
        batch = rank_batches(embeddings, labels, group)
    if ids is None:
        return batch.embeddings.detach(), batch.labels
    count = batch.sizes[own_rank(group)]
    numbers = torch.cat(exchanged(lambda: _as_ids(ids, rows=count), group))
    kept = _first(numbers).nonzero().flatten()
    order = kept[numbers[kept].argsort()]
    _check_labels(numbers, batch.labels.cpu(), order)
    order = order.to(batch.labels.device)
    return batch.embeddings.detach()[order], batch.labels[order]


def _own_batch(
    embeddings: ArrayLike, labels: ArrayLike, ids: ArrayLike | None, group: Group
) -> tuple[tuple[Tensor, Tensor], Int[Tensor, " rows"]]:
    """This rank's rows that count, their labels, and their places in the order of all rows."""

    rows, numbers = agreed(lambda: checked_rows(embeddings, labels), group)
    rows, count = rows.detach(), len(rows)
    if ids is None:
        sizes = exchanged(lambda: count, group)
        return (rows, numbers), torch.arange(count) + sum(sizes[: own_rank(group)])
    places = agreed(lambda: _as_ids(ids, rows=count), group)
    kept = own_rows(places, group)
    return (rows[kept.to(rows.device)], numbers[kept.to(numbers.device)]), places[kept]


def _as_ids(ids: ArrayLike, rows: int | None = None) -> Int[Tensor, " rows"]:
    rule = "ids must be one whole number for each row, its index in the dataset"
    try:
        numbers = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{rule}, got {type(ids).__name__} of other values") from None
    if not numbers.numel():  # an empty list has no type
        numbers = numbers.flatten().long()
    if numbers.ndim != 1 or numbers.is_floating_point() or numbers.is_complex():
        raise InputError(f"{rule}, got shape {tuple(numbers.shape)} of {numbers.dtype}")
    if rows is not None and len(numbers) != rows:
        raise InputError(f"ids must be one for each row, got {len(numbers)} ids and {rows} rows")
    return numbers.long().cpu()


def _first(ids: Int[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
    """Whether a row is the first one with its id."""
    _, group = ids.unique(return_inverse=True)
    places = torch.arange(len(ids))
    first = torch.full((len(ids),), len(ids)).scatter_reduce_(0, group, places, "amin")
    return first[group] == places


def _check_labels(
    ids: Int[Tensor, " rows"], labels: Int[Tensor, " rows"], order: Int[Tensor, " kept"]
) -> None:
    """InputError unless rows with one id have one label: otherwise the ids are not those of the dataset."""
    wanted = labels[order][torch.searchsorted(ids[order], ids)]
    wrong = (wanted != labels).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"rows with the same id must be the same row, but id {int(ids[row])} has the labels "
            f"{int(wanted[row])} and {int(labels[row])}; give the index of each row in the dataset"
        )


def _merged(of_ranks: list[Moments | None]) -> Moments:
    parts = [part for part in of_ranks if part is not None]
    if not parts:
        raise InputError("no rank has rows; give at least one rank some")
    return merge_all(parts)


def _cpu(of: Moments) -> Moments:
    return Moments(*(part.cpu() for part in of))
