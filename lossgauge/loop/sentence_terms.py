"""The terms of sentence-transformers' losses, recomputed from the embeddings that they had.

These losses call the model inside, so the embeddings are not among their inputs: they are what `compute_loss_from_embeddings` gets, one
tensor for each column of the data (anchors, positives, negatives).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from sentence_transformers.sentence_transformer import losses
from torch import Tensor, nn

from lossgauge.loop.foreign_terms import (
    TOLERANCE,
    Reader,
    Terms,
    evaluation_of,
    hinge_weight,
)
from lossgauge.types import Evaluation

Columns = Sequence[Float[Tensor, "batch width"]]


class _Given(NamedTuple):
    """What `compute_loss_from_embeddings` was called with."""

    columns: Columns
    labels: Tensor | None


def reader_for(criterion: nn.Module) -> Reader | None:
    """The reader of a loss of sentence-transformers; None if its terms are not known."""
    terms = _TERMS.get(type(criterion))
    if terms is None or getattr(criterion, "gather_across_devices", False):
        return None
    return _ColumnReader(criterion, terms)


class _ColumnReader:
    """Reads the embeddings that a criterion computes its value from."""

    def __init__(
        self, criterion: nn.Module, terms: Callable[[Any, _Given, Tensor], Evaluation]
    ) -> None:
        self.criterion, self.terms = criterion, terms
        self.given: _Given | None = None
        attributes = vars(criterion)
        if _COMPUTE not in attributes:
            attributes[_COMPUTE] = _Watch(criterion).compute
        watch: _Watch = attributes[_COMPUTE].__self__
        watch.readers.add(self)
        weakref.finalize(self, watch.end_without_readers)

    def __call__(self, inputs: tuple[Any, ...], output: Tensor) -> Evaluation:
        given, self.given = self.given, None
        return Evaluation(output) if given is None else self.terms(self.criterion, given, output)


_COMPUTE = "compute_loss_from_embeddings"


class _Watch:
    """Stands before the criterion's own `compute_loss_from_embeddings`. In a copy of the criterion it has no readers."""

    def __init__(self, criterion: nn.Module) -> None:
        self.criterion = criterion
        self.readers: weakref.WeakSet[_ColumnReader] = weakref.WeakSet()

    def compute(self, embeddings: list[Tensor], labels: Tensor | None) -> Tensor:
        for reader in self.readers:
            reader.given = _Given(
                [column.detach() for column in embeddings],
                None if labels is None else labels.detach(),
            )
        value: Tensor = getattr(type(self.criterion), _COMPUTE)(self.criterion, embeddings, labels)
        return value

    def end_without_readers(self) -> None:
        """Leave the criterion as it was, once no reader is left."""
        if not any(True for _ in self.readers):
            vars(self.criterion).pop(_COMPUTE, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Watch:
        return _Watch(memo[id(self.criterion)])

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[nn.Module]]:
        return _Watch, (self.criterion,)


def _ranking(criterion: Any, given: _Given, output: Tensor) -> Evaluation:
    """MultipleNegativesRankingLoss: a term is an anchor, of value log Z − the score of its positive."""
    scores = _scores(criterion, given.columns)
    rows = torch.arange(len(given.columns[0]), device=output.device)
    positive = scores["query_to_doc"][rows, rows]
    if criterion.partition_mode == "joint":
        log_sums = [torch.cat(list(scores.values()), dim=1).logsumexp(dim=1)] * len(scores)
        log_sum = log_sums[0]
    else:
        log_sums = [part.logsumexp(dim=1) for part in scores.values()]
        log_sum = torch.stack(log_sums).mean(dim=0)
    # the probability of the positive: it is a candidate in both directions between queries and documents
    given_to_positive = torch.zeros_like(positive)
    for direction, of_direction in zip(scores, log_sums, strict=True):
        if direction in ("query_to_doc", "doc_to_query"):
            share = 1 if criterion.partition_mode == "joint" else 1 / len(scores)
            given_to_positive += share * (scores[direction][rows, rows] - of_direction).exp()
    terms = Terms(log_sum - positive, rows, (1 - given_to_positive).clamp(min=0))
    return evaluation_of(output, [terms], batch=len(rows))


def _scores(criterion: Any, columns: Columns) -> dict[str, Tensor]:
    """Scores of each direction, batch × candidates, scaled; −∞ for a candidate that does not count."""
    queries, *documents = columns
    every, own = torch.cat(documents), documents[0]
    itself = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    of_query = itself.repeat(1, len(documents))
    similarity = criterion.similarity_fct
    made = {
        "query_to_doc": lambda: similarity(queries, every),
        "query_to_query": lambda: similarity(queries, queries).masked_fill(itself, -torch.inf),
        "doc_to_query": lambda: similarity(queries, own).T,
        "doc_to_doc": lambda: similarity(every, own).T.masked_fill(of_query, -torch.inf),
    }
    similarities = {name: make() for name, make in made.items() if name in criterion.directions}
    scores = {name: of * criterion.scale for name, of in similarities.items()}
    harder = {
        "in_batch_negatives": ~of_query,
        "hard_negatives": of_query & ~_positives(of_query),
        "all_negatives": ~_positives(of_query),
    }.get(criterion.hardness_mode)
    if harder is not None:
        penalty = criterion.hardness_strength * similarities["query_to_doc"]
        scores["query_to_doc"] = scores["query_to_doc"] + penalty.masked_fill(~harder, 0)
    return scores


def _positives(of_query: Tensor) -> Tensor:
    """Of the documents of each query, the first column: its positive."""
    rows, candidates = of_query.shape
    return of_query & (torch.arange(candidates, device=of_query.device) < rows)


def _cosent(criterion: Any, given: _Given, output: Tensor) -> Evaluation:
    """CoSENTLoss: a term is two pairs with different labels, of value log(1 + e^{scale·(s_lower − s_higher)}), its loss if it were alone."""
    first, second = given.columns
    scores = criterion.similarity_fct(first, second)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * criterion.scale
    assert given.labels is not None  # the loss has refused a call without
    labels = given.labels.reshape(-1)
    higher = labels[:, None] > labels
    values = torch.nn.functional.softplus(scores[None, :] - scores[:, None], threshold=50)
    in_term = (higher | higher.T).any(dim=1)
    return Evaluation(
        output,
        term_count=int(higher.sum()),
        active_count=int(((values > TOLERANCE) & higher).sum()),
        skipped_anchors=int((~in_term).sum()),
    )


def _triplet(criterion: Any, given: _Given, output: Tensor) -> Evaluation:
    """TripletLoss: a term is a row of the data, of value [d(anchor, positive) − d(anchor, negative) + margin]₊."""
    anchor, positive, negative = given.columns
    distance = criterion.distance_metric
    gap = distance(anchor, positive) - distance(anchor, negative)
    values = (gap + criterion.triplet_margin).relu()
    rows = torch.arange(len(values), device=values.device)
    return evaluation_of(output, [Terms(values, rows, hinge_weight(values))], batch=len(values))


_TERMS: dict[type, Callable[[Any, _Given, Tensor], Evaluation]] = {
    losses.MultipleNegativesRankingLoss: _ranking,
    losses.CoSENTLoss: _cosent,
    losses.TripletLoss: _triplet,
}
