"""The terms of other libraries' losses: how many there are, how many are active, and which anchors have none.

A reader does not compute a loss a second time where the library has its terms: pytorch-metric-learning gives them to its reducer, with
the rows that each is about. sentence-transformers reduces inside, so its terms are recomputed from the embeddings, without a graph.
`docs/other-losses.md` has the term of each loss. Of any other loss nothing is known, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lossgauge.types import Evaluation

TOLERANCE = 1e-6
"""A term above it is active: that of our own losses."""

Reader = Callable[[tuple[Any, ...], Tensor], Evaluation]
"""The positional inputs of the criterion's `forward`, and its output → its Evaluation."""


class Terms(NamedTuple):
    """Some terms of a loss, of one kind."""

    values: Float[Tensor, " terms"]
    anchors: Int[Tensor, " terms"] | None
    """The row of the batch that is each term's anchor; None where a term is about no single row."""
    weights: Float[Tensor, " terms"] | None
    """W in [0, 1], the share of a full-strength update; None where it is not known."""


def reader_for(criterion: nn.Module) -> Reader | None:
    """What reads the terms of `criterion`; None for the gradient side only.

    It knows ContrastiveLoss, TripletMarginLoss, NTXentLoss, SupConLoss, NPairsLoss, ArcFaceLoss, MultiSimilarityLoss and CircleLoss of
    pytorch-metric-learning, with any distance, reducer and miner, and MultipleNegativesRankingLoss, CoSENTLoss and TripletLoss of sentence-transformers; not their
    subclasses, which may have other terms. Create it before the criterion is called, and call it once after each call of the
    criterion. It watches the criterion as long as it exists.
    """
    library, _, _ = type(criterion).__module__.partition(".")
    if library == "pytorch_metric_learning":
        from lossgauge.loop.metric_learning_terms import reader_for as of_metric_learning

        return of_metric_learning(criterion)
    if library == "sentence_transformers":
        from lossgauge.loop.sentence_terms import reader_for as of_sentence_transformers

        return of_sentence_transformers(criterion)
    return None


def evaluation_of(
    value: Tensor, terms: Sequence[Terms], *, batch: int, skipped: int | None = None
) -> Evaluation:
    """The evaluation of a loss with these terms. `skipped` anchors, or the rows of the batch that no term has as its anchor."""
    if not terms:
        return Evaluation(value, 0, 0, batch if skipped is None else skipped)
    values = torch.cat([part.values.detach().float() for part in terms])
    anchors = _joined([part.anchors for part in terms])
    weights = _joined([part.weights for part in terms])
    evaluation = Evaluation(
        value=value,
        term_count=len(values),
        active_count=int((values > TOLERANCE).sum()),
        skipped_anchors=skipped,
    )
    if anchors is None:
        return evaluation
    counts = torch.bincount(anchors, minlength=batch)

    def mean(of_terms: Tensor) -> Tensor:
        sums = torch.zeros(batch, dtype=torch.float64, device=values.device)
        return (sums.index_add_(0, anchors, of_terms.double()) / counts).to(values.dtype)

    return evaluation._replace(
        skipped_anchors=int((counts == 0).sum()) if skipped is None else skipped,
        anchor_value=mean(values),
        anchor_weight=None if weights is None else mean(weights),
    )


def softmax_weight(values: Float[Tensor, " terms"]) -> Float[Tensor, " terms"]:
    """W of terms of value −log p: the probability 1 − p that is not given to the positive."""
    return -torch.expm1(-values)


def hinge_weight(values: Float[Tensor, " terms"]) -> Float[Tensor, " terms"]:
    """W of terms of value [v]₊: 1 if v > 0."""
    return (values > 0).to(values.dtype)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None
