"""The terms of pytorch-metric-learning's losses, as its reducer gets them: one value for each, and the rows it is about.

So they are those of the distance and of the miner (`indices_tuple`) that the loop uses, before the reducer weights them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor, nn

from lossgauge.loop.foreign_terms import (
    Reader,
    Terms,
    evaluation_of,
    hinge_weight,
    softmax_weight,
)
from lossgauge.loop.hooks import after_forward
from lossgauge.losses.softmax_family import log_one_plus_sum
from lossgauge.types import Evaluation


class _Batch(NamedTuple):
    """The inputs of a loss."""

    embeddings: Tensor
    labels: Tensor | None
    pairs: Any
    """The `indices_tuple` of a miner, of three or four tensors; None for all pairs."""
    reference: Tensor | None
    """Other embeddings that the rows are compared with; None for the rows themselves."""
    reference_labels: Tensor | None


class _Kind(NamedTuple):
    """How the terms of one loss are read."""

    weights: Callable[[nn.Module, Tensor, _Batch], Tensor | None]
    """W of terms with these values."""
    without_term: Callable[[_Batch, int], int] | None = None
    """The anchors without a term, from the number of terms; None: the rows that are no term's anchor."""
    has_term: Callable[[_Batch], Tensor] | None = None
    """Which rows have a term, where the library also gives a value of 0 for the others; None: each value is a term."""


def reader_for(criterion: nn.Module) -> Reader | None:
    """The reader of a loss of pytorch-metric-learning; None if its terms are not known."""
    kind = _KINDS.get(type(criterion))
    return None if kind is None else _ReducerReader(criterion, kind)


class _ReducerReader:
    """Reads what the criterion gives its reducer."""

    def __init__(self, criterion: nn.Module, kind: _Kind) -> None:
        self.criterion, self.kind = criterion, kind
        self.seen: list[Terms] | None = None
        own = weakref.ref(self)  # the hook does not keep the reader

        def reduced(inputs: tuple[Any, ...], _: Any) -> None:
            reader = own()
            if reader is not None:
                reader.seen = _terms_in(inputs[0])

        weakref.finalize(self, after_forward(cast(nn.Module, criterion.reducer), reduced))

    def __call__(self, inputs: tuple[Any, ...], output: Tensor) -> Evaluation:
        seen, self.seen = self.seen, None
        if seen is None:  # reduced by something else
            return Evaluation(output)
        embeddings, *others = (*inputs, *[None] * 5)[:5]
        batch = _Batch(embeddings, *others)
        terms = [
            part._replace(weights=self.kind.weights(self.criterion, part.values, batch))
            for part in seen
        ]
        if self.kind.has_term is not None:
            wanted = self.kind.has_term(batch)
            terms = [_of_anchors(part, wanted) for part in terms]
        without_term = self.kind.without_term
        count = sum(len(part.values) for part in terms)
        return evaluation_of(
            output,
            terms,
            batch=len(embeddings),
            skipped=None if without_term is None else without_term(batch, count),
        )


def _terms_in(loss_dict: dict[str, dict[str, Any]]) -> list[Terms]:
    """The terms in the argument of a reducer. What is reduced already is a regulariser, or stands for no terms."""
    found = []
    for entry in loss_dict.values():
        values, indices = entry["losses"], entry["indices"]
        if entry["reduction_type"] == "already_reduced" or not isinstance(values, Tensor):
            continue
        anchors = indices if isinstance(indices, Tensor) else indices[0]
        # some losses give a column
        found.append(Terms(values.detach().flatten(), anchors.to(values.device), None))
    return found


def _of_anchors(terms: Terms, wanted: Tensor) -> Terms:
    if terms.anchors is None:
        return terms
    kept = wanted[terms.anchors]
    weights = None if terms.weights is None else terms.weights[kept]
    return Terms(terms.values[kept], terms.anchors[kept], weights)


def _pair_masks(batch: _Batch) -> tuple[Tensor, Tensor]:
    """The positive and the negative pairs, of each row with each row that it is compared with."""
    pairs = loss_and_miner_utils.convert_to_pairs(batch.pairs, batch.labels, batch.reference_labels)
    reference = batch.embeddings if batch.reference is None else batch.reference
    device = batch.embeddings.device
    masks = torch.zeros(2, len(batch.embeddings), len(reference), dtype=torch.bool, device=device)
    for mask, rows, columns in ((masks[0], *pairs[:2]), (masks[1], *pairs[2:])):
        mask[rows.to(device), columns.to(device)] = True
    return masks[0], masks[1]


def _has_pair(batch: _Batch) -> Tensor:
    """Which rows are the anchor of a pair."""
    positive, negative = _pair_masks(batch)
    return positive.any(dim=1) | negative.any(dim=1)


def _has_both_pairs(batch: _Batch) -> Tensor:
    """Which rows are the anchor of a positive and of a negative pair."""
    positive, negative = _pair_masks(batch)
    return positive.any(dim=1) & negative.any(dim=1)


def _has_positive(batch: _Batch) -> Tensor:
    """Which rows are the anchor of a positive pair."""
    device, count = batch.embeddings.device, len(batch.embeddings)
    if batch.pairs is not None:
        anchors: Tensor = batch.pairs[0].to(device)
        return torch.zeros(count, dtype=torch.bool, device=device).index_fill_(0, anchors, True)
    assert batch.labels is not None  # the loss has refused a call without both
    labels = batch.labels.to(device)
    if batch.reference_labels is not None:
        return torch.isin(labels, batch.reference_labels.to(device))
    _, group, sizes = labels.unique(return_inverse=True, return_counts=True)
    alone: Tensor = sizes[group] == 1
    return ~alone


def _classes_without_pair(batch: _Batch, terms: int) -> int:
    """N-pair has one term for each class with a pair."""
    assert batch.labels is not None
    return len(batch.labels.unique()) - terms


def _weighted_softmax(_: nn.Module, values: Tensor, batch: _Batch) -> Tensor:
    """W of −w·log p, with the weight w that a miner gives a sample."""
    weight: Tensor = loss_and_miner_utils.convert_to_weights(
        batch.pairs, batch.labels, dtype=values.dtype
    ).to(values.device)
    return weight * softmax_weight(torch.where(weight > 0, values / weight, 0))


def _multi_similarity_weight(criterion: nn.Module, _: Tensor, batch: _Batch) -> Tensor:
    """The mean of Σ/(1 + Σ) over the sides that a row has. The values alone do not tell the sides apart."""
    loss = cast(losses.MultiSimilarityLoss, criterion)
    with torch.no_grad():
        reference = batch.embeddings if batch.reference is None else batch.reference
        matrix = loss.distance(batch.embeddings, reference)
        positive, negative = _pair_masks(batch)
        sides = (
            (loss.alpha * loss.distance.margin(matrix, loss.base), positive),
            (loss.beta * loss.distance.margin(loss.base, matrix), negative),
        )
        weights = sum(log_one_plus_sum(exponents, mask).weight for exponents, mask in sides)
        count = positive.any(dim=1).int() + negative.any(dim=1).int()
    found: Tensor = weights / count.clamp(min=1)
    return found


def _triplet_weight(criterion: nn.Module, values: Tensor, _: _Batch) -> Tensor:
    return softmax_weight(values) if criterion.smooth_loss else hinge_weight(values)


_KINDS: dict[type, _Kind] = {
    losses.ContrastiveLoss: _Kind(lambda _, values, __: hinge_weight(values)),
    losses.TripletMarginLoss: _Kind(_triplet_weight),
    losses.NTXentLoss: _Kind(lambda _, values, __: softmax_weight(values)),
    losses.SupConLoss: _Kind(lambda *_: None, has_term=_has_positive),
    losses.NPairsLoss: _Kind(
        lambda _, values, __: softmax_weight(values), without_term=_classes_without_pair
    ),
    losses.ArcFaceLoss: _Kind(_weighted_softmax),
    losses.MultiSimilarityLoss: _Kind(_multi_similarity_weight, has_term=_has_pair),
    losses.CircleLoss: _Kind(
        lambda _, values, __: softmax_weight(values), has_term=_has_both_pairs
    ),
}
