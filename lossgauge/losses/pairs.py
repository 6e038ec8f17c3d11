"""A loss that weights pairs of samples: the part that contrastive, triplet, InfoNCE and SCL share.

It weights the entries of a matrix over the batch: dot products S = Z·Zᵀ, or squared distances. Each loss computes the sums of
its terms for each anchor, and G, their gradient at the matrix. This file computes the rest: the gradient at the embeddings,
(G + Gᵀ)·Z for dot products, and its parts from positives (pull) and negatives (push). Nothing larger than the matrix is stored.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.losses.base import Loss, Outcome, Terms, effective_share, forces
from lossgauge.losses.compiled import KernelSpec, compiled_outcome
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


def squared_distances(rows: Float[Tensor, "batch width"]) -> Float[Tensor, "batch batch"]:
    """‖r_i − r_j‖², at least 0, and exactly 0 if it is within the rounding error of its terms.

    Computed from one matrix product, so the smallest distance that float32 can resolve on the sphere is about 1e-3.
    """
    product = rows @ rows.T
    norms = product.diagonal().clone()
    sums = norms[:, None] + norms
    distances = torch.add(sums, product, alpha=-2)
    return distances.masked_fill_(distances < sums.mul_(2 * torch.finfo(rows.dtype).eps), 0)


def _at_rows_of_distances(
    weights: Float[Tensor, "batch batch"], rows: Float[Tensor, "batch width"]
) -> Tensor:
    """Σ_j 2·w_ij·(r_i − r_j) for symmetric weights on squared distances."""
    return 2 * torch.addmm(weights.sum(dim=1, keepdim=True) * rows, weights, rows, alpha=-1)


class PairMatrix(NamedTuple):
    """The matrix that a pair loss weights: one number for each pair of samples."""

    of: Callable[[Tensor], Tensor]
    """Rows, batch × width → the matrix, batch × batch."""
    at_rows: Callable[[Tensor, Tensor], Tensor]
    """G + Gᵀ and the rows → the gradient at the rows."""
    is_distance: bool
    entries: tuple[float, float]
    """The range of the largest entry of the rows in which float64 can hold the matrix and the gradient."""


DOT_PRODUCTS = PairMatrix(
    of=lambda rows: rows @ rows.T,
    at_rows=lambda weights, rows: weights @ rows,
    is_distance=False,
    entries=(0.0, math.inf),
)
SQUARED_DISTANCES = PairMatrix(
    of=squared_distances,
    at_rows=_at_rows_of_distances,
    is_distance=True,
    entries=(1e-135, 1e145),
)


class PairLoss(Loss):
    """Abstract: a loss that weights dot products or squared Euclidean distances inside the batch, without normalising."""

    matrix: ClassVar[PairMatrix]

    @abstractmethod
    def terms(
        self,
        matrix: Float[Tensor, "batch batch"],
        positive: Bool[Tensor, "batch batch"],
        negative: Bool[Tensor, "batch batch"],
    ) -> Terms:
        """Terms in plain torch: the reference, and the form for every device without a kernel."""

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
        pairs = positive | negative
        share = effective_share(terms.gradient, pairs=int(pairs.sum()))
        both = terms.gradient + terms.gradient.T
        gradient = self.matrix.at_rows(both, rows)
        pull = self.matrix.at_rows(both.masked_fill_(negative | negative.T, 0), rows)
        return Outcome(
            value=terms.value,
            counts=terms.counts,
            active=terms.active,
            weight=terms.weight,
            forces=forces(pull, gradient - pull, whole=gradient),
            skipped_anchors=int((terms.counts[:anchors] == 0).sum()),
            effective_share=share,
        )
