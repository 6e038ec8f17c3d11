"""A loss that weights pairs of samples: the part that contrastive, triplet, InfoNCE and SCL share.

It weights the entries of a matrix over the batch: dot products S = Z·Zᵀ, or squared distances. Each loss computes the sums of
its terms for each anchor, and G, their gradient at the matrix. This file computes the rest: the gradient at the embeddings,
(G + Gᵀ)·Z for dot products, and its parts from positives (pull) and negatives (push). Nothing larger than the matrix is stored.
The matrix may be a rectangle: one row for each query, one column for each document. Then the gradient is G·D at the queries
and Gᵀ·Q at the documents.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.batch import ArrayLike, PairBatch, checked_pairs
from lossgauge.errors import InputError
from lossgauge.losses.base import Loss, Outcome, Terms, effective_share, forces
from lossgauge.losses.compiled import KernelSpec, compiled_outcome
from lossgauge.memory import Memory
from lossgauge.types import Evaluation


def pair_masks(
    labels: Int[Tensor, " batch"],
) -> tuple[Bool[Tensor, "batch batch"], Bool[Tensor, "batch batch"]]:
    """Masks of the ordered pairs of one class (a sample is not its own positive), and of those of two classes."""
    negative = labels[:, None] != labels
    positive = ~negative
    return positive.fill_diagonal_(False), negative


def drawn_masks(
    labels: Int[Tensor, "parts anchors"],
) -> tuple[Bool[Tensor, "batch batch"], Bool[Tensor, "batch batch"]]:
    """Masks like `pair_masks`, of the drawn pairs alone: an anchor with each other part of its term.

    The batch has the anchors first, then the second parts of all terms, then the third parts.
    """
    parts, count = labels.shape
    anchors = torch.arange(count, device=labels.device)
    masks = torch.zeros(2, labels.numel(), labels.numel(), dtype=torch.bool, device=labels.device)
    for part in range(1, parts):
        same = labels[part] == labels[0]
        masks[0, anchors, part * count + anchors] = same
        masks[1, anchors, part * count + anchors] = ~same
    return masks[0], masks[1]


def memory_masks(
    labels: Int[Tensor, " batch"], rows: Int[Tensor, " batch"], memory: Memory
) -> tuple[Bool[Tensor, "batch columns"], Bool[Tensor, "batch columns"]]:
    """Masks of the pairs of a batch, then of each of its rows with each row of the memory.

    A row and its own earlier embedding are in neither mask, as a sample and itself.
    """
    positive, negative = pair_masks(labels)
    same = labels[:, None] == memory.labels
    other = rows[:, None] != memory.rows
    return (
        torch.cat((positive, same & other), dim=1),
        torch.cat((negative, ~same & other), dim=1),
    )


def squared_distances(
    rows: Float[Tensor, "rows width"], others: Float[Tensor, "others width"] | None = None
) -> Float[Tensor, "rows others"]:
    """‖r_i − o_j‖², at least 0, and exactly 0 if it is within the rounding error of its terms; of all rows without `others`.

    Computed from one matrix product, so the smallest distance that float32 can resolve on the sphere is about 1e-3.
    """
    product = rows @ (rows if others is None else others).T
    if others is None:
        left = right = product.diagonal().clone()
        rounding = 2.0
    else:
        # these norms are other sums than the product's, so equal rows differ by the rounding of a sum over the width
        left, right = torch.linalg.vecdot(rows, rows), torch.linalg.vecdot(others, others)
        rounding = max(2.0, rows.shape[1] ** 0.5)
    sums = left[:, None] + right
    distances = torch.add(sums, product, alpha=-2)
    limit = sums.mul_(rounding * torch.finfo(rows.dtype).eps)
    return distances.masked_fill_(distances < limit, 0)


def _at_rows_of_distances(
    weights: Float[Tensor, "rows others"],
    rows: Float[Tensor, "rows width"],
    others: Float[Tensor, "others width"],
) -> Tensor:
    """Σ_j 2·w_ij·(r_i − o_j): the gradient at rows, of weights on squared distances."""
    return 2 * torch.addmm(weights.sum(dim=1, keepdim=True) * rows, weights, others, alpha=-1)


class PairMatrix(NamedTuple):
    """The matrix that a pair loss weights: one number for each pair of samples."""

    of: Callable[..., Tensor]
    """Rows, batch × width → the matrix, batch × batch; or rows and other rows → one row for each row, a column for each other."""
    at_rows: Callable[[Tensor, Tensor, Tensor], Tensor]
    """The gradient at the matrix, the rows and the others → the gradient at the rows, with the others as constants."""
    is_distance: bool
    entries: tuple[float, float]
    """The range of the largest entry of the rows in which float64 can hold the matrix and the gradient."""


DOT_PRODUCTS = PairMatrix(
    of=lambda rows, others=None: rows @ (rows if others is None else others).T,
    at_rows=lambda weights, rows, others: weights @ others,
    is_distance=False,
    entries=(0.0, math.inf),
)
SQUARED_DISTANCES = PairMatrix(
    of=squared_distances,
    at_rows=_at_rows_of_distances,
    is_distance=True,
    entries=(1e-135, 1e145),
)


class PairForm(Loss):
    """Abstract: a loss that also has a form for queries and documents."""

    pair_form = True
    needs_guide: ClassVar[bool] = False
    """Whether the loss needs the similarities of the frozen features; such a loss has the pair form alone."""

    @abstractmethod
    def outcome_of_pairs(
        self,
        queries: Float[Tensor, "queries width"],
        documents: Float[Tensor, "documents width"],
        batch: PairBatch,
    ) -> Outcome:
        """Like `outcome`, over the masks of `batch`; the rows are its own in another type. Forces are at queries, then documents."""

    def evaluate_pairs(
        self,
        queries: ArrayLike,
        documents: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike | None = None,
        *,
        guide: ArrayLike | None = None,
    ) -> Evaluation:
        """Like `evaluate`, over pairs of a query and a document: the masks say which are positive, and which negative.

        The anchors are the queries. The value is differentiable at queries and at documents; pull and push are means over the
        rows of both. Without `negative`, a pair that is not positive is negative. `guide` holds the similarities of the frozen
        features, for a loss that needs them. Memory grows as queries × documents. Raises InputError as `evaluate` does.
        """
        if self.needs_guide is (guide is None):
            raise InputError(
                f"{type(self).__name__} needs guide=, the similarities of the frozen features, queries × documents"
                if self.needs_guide
                else f"guide has no effect on {type(self).__name__}; leave it out"
            )
        pairs = (queries, documents, positive, negative, guide)
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            evaluation: Evaluation = torch.compiler.disable(self._evaluate_pairs)(*pairs)
            return evaluation
        return self._evaluate_pairs(*pairs)

    def _evaluate_pairs(
        self,
        queries: ArrayLike,
        documents: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike | None,
        guide: ArrayLike | None,
    ) -> Evaluation:
        batch = checked_pairs(queries, documents, positive, negative, guide)
        return self._computed(
            (batch.queries, batch.documents),
            batch.largest,
            lambda rows, others: self.outcome_of_pairs(rows, others, batch),
        )


class PairLoss(PairForm):
    """Abstract: a loss that weights dot products or squared Euclidean distances inside the batch, without normalising."""

    matrix: ClassVar[PairMatrix]

    @abstractmethod
    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        """Terms in plain torch: the reference, the form for every device without a kernel, and that of queries × documents.

        It takes `guide` too, if the class says `needs_guide`.
        """

    def kernel(self) -> KernelSpec | None:
        """The compiled form of `terms`, if it has one."""
        return None

    @property
    def entries(self) -> tuple[float, float]:
        return self.matrix.entries

    def evaluate_drawn(
        self, embeddings: ArrayLike, labels: Int[Tensor, "parts anchors"]
    ) -> Evaluation:
        """Like `evaluate`, over drawn terms instead of all terms of the batch: see `drawn_batches`.

        A column of `labels` is a term: an anchor and its partner, or an anchor, its positive and its negative. `embeddings`
        has the rows of all anchors, then those of the second parts, then those of the third parts.
        """
        return self._evaluate(
            embeddings,
            labels.flatten(),
            lambda rows, _: self._over(rows, *drawn_masks(labels), anchors=labels.shape[1]),
        )

    @property
    def takes_memory(self) -> bool:
        """Whether it has `evaluate_with_memory`: it weights pairs of labelled rows, and does not count a row for itself."""
        return self.square_form and not getattr(self, "include_self", False)

    def evaluate_with_memory(
        self,
        embeddings: ArrayLike,
        labels: Int[Tensor, " batch"],
        rows: Int[Tensor, " batch"],
        memory: Memory,
    ) -> Evaluation:
        """Like `evaluate`, with the rows of the memory as further columns: an anchor has positives and negatives there too.

        Anchors are the rows of the batch, and `rows` says which rows of the data they are. The memory is constant: the gradient, pull
        and push are those of the batch, whose rows are anchors and columns. Always in plain torch; memory grows as
        batch × (batch + stored). Raises InputError for a loss that does not take a memory (`takes_memory`).
        """
        if not self.takes_memory:
            raise InputError(
                f"{type(self).__name__} cannot use a memory: it needs a loss that weights pairs of labelled rows, and does "
                "not count a row for itself (include_self); leave the memory out"
            )
        return self._evaluate(
            embeddings,
            labels,
            lambda at, classes: self._with_columns(
                at, memory.embeddings.to(at), *memory_masks(classes, rows, memory)
            ),
        )

    def _with_columns(
        self,
        embeddings: Float[Tensor, "batch width"],
        constants: Float[Tensor, "stored width"],
        positive: Bool[Tensor, "batch columns"],
        negative: Bool[Tensor, "batch columns"],
    ) -> Outcome:
        """The outcome over the batch and further columns that get no gradient."""
        count, origin = len(embeddings), embeddings[:1]
        if self.matrix.is_distance:  # see `_over`
            embeddings, constants = embeddings - origin, constants - origin
        columns = torch.cat((embeddings, constants))
        terms = self.terms(self.matrix.of(embeddings, columns), positive, negative)

        def at_batch(weights: Tensor) -> Tensor:
            at = self.matrix.at_rows
            as_columns = weights[:, :count].T
            return at(weights, embeddings, columns) + at(as_columns, embeddings, embeddings)

        pull, gradient = at_batch(_pulling(terms, negative)), at_batch(terms.gradient)
        return _outcome(terms, positive | negative, pull, gradient, anchors=count)

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        spec = self.kernel()
        if spec is not None:
            outcome = compiled_outcome(spec, embeddings, labels, distances=self.matrix.is_distance)
            if outcome is not None:
                return outcome
        return self._over(embeddings, *pair_masks(labels), anchors=len(labels))

    def _over(
        self,
        embeddings: Float[Tensor, "batch width"],
        positive: Bool[Tensor, "batch batch"],
        negative: Bool[Tensor, "batch batch"],
        *,
        anchors: int,
    ) -> Outcome:
        """The outcome over these pairs, in plain torch; the first rows of the batch are the anchors."""
        # Distances do not depend on the origin. With the origin at a sample, equal points are exact zeros, so a
        # collapsed batch has a gradient of exactly 0, and rows far from the old origin keep their digits.
        rows = embeddings - embeddings[:1] if self.matrix.is_distance else embeddings
        terms = self.terms(self.matrix.of(rows), positive, negative)
        pulling = _pulling(terms, negative)
        gradient = self.matrix.at_rows(terms.gradient + terms.gradient.T, rows, rows)
        pull = self.matrix.at_rows(pulling + pulling.T, rows, rows)
        return _outcome(terms, positive | negative, pull, gradient, anchors=anchors)

    def over_pairs(
        self,
        embeddings: Float[Tensor, "batch width"],
        positive: Bool[Tensor, "batch batch"],
        negative: Bool[Tensor, "batch batch"],
    ) -> Outcome:
        """Like `outcome`, over these pairs instead of all pairs of the batch; always in plain torch."""
        return self._over(embeddings, positive, negative, anchors=len(embeddings))

    def outcome_of_pairs(
        self,
        queries: Float[Tensor, "queries width"],
        documents: Float[Tensor, "documents width"],
        batch: PairBatch,
    ) -> Outcome:
        if self.matrix.is_distance:  # see `_over`
            queries, documents = queries - queries[:1], documents - queries[:1]
        # a loss takes a guide only if it says so
        guided = {} if batch.guide is None else {"guide": batch.guide}
        terms_of: Callable[..., Terms] = self.terms
        matrix = self.matrix.of(queries, documents)
        terms = terms_of(matrix, batch.positive, batch.negative, **guided)

        def at_rows(weights: Tensor) -> Tensor:
            at = self.matrix.at_rows
            return torch.cat((at(weights, queries, documents), at(weights.T, documents, queries)))

        pull, gradient = at_rows(_pulling(terms, batch.negative)), at_rows(terms.gradient)
        pairs = batch.positive | batch.negative
        outcome = _outcome(terms, pairs, pull, gradient, anchors=len(queries))
        return outcome._replace(anchor_count=len(queries))


def weights_pairs_of_samples(kind: object) -> bool:
    """Whether a class of losses weights the pairs of a batch with labels."""
    return isinstance(kind, type) and issubclass(kind, PairLoss) and kind.square_form


def _pulling(terms: Terms, negative: Bool[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The part of the gradient at the matrix that pulls: that of positives, without the part that pushes them."""
    pulling = terms.gradient.masked_fill(negative, 0)
    return pulling if terms.repulsion is None else pulling.sub_(terms.repulsion)


def _outcome(
    terms: Terms,
    pairs: Bool[Tensor, "rows columns"],
    pull: Float[Tensor, "samples width"],
    gradient: Float[Tensor, "samples width"],
    *,
    anchors: int,
) -> Outcome:
    return Outcome(
        value=terms.value,
        counts=terms.counts,
        active=terms.active,
        weight=terms.weight,
        forces=forces(pull, gradient - pull, whole=gradient),
        skipped_anchors=int((terms.counts[:anchors] == 0).sum()),
        effective_share=effective_share(terms.gradient, pairs=int(pairs.sum())),
        parameter_gradients=terms.parameter_gradients,
        columns=terms.columns,
    )
