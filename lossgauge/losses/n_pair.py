"""N-pair loss: one pair for each class; the positives of all other classes are the negatives.

Sohn 2016, eq. 6 with his regulariser. A term is a class with at least two samples; its first two by index
are anchor a_c and positive p_c: log(1 + Σ_{c'≠c} e^{(a_c·p_c' − a_c·p_c)/τ}) + ¼λ(‖a_c‖² + ‖p_c‖²).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.losses.base import Loss, Outcome, effective_share, forces
from lossgauge.losses.settings import SearchRange, above_zero, setting, zero_or_more
from lossgauge.losses.softmax_family import softplus_terms


def first_pairs(
    labels: Int[Tensor, " batch"],
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], int]:
    """Row numbers of the first and second sample of each class that has two, and the number of classes with one sample."""
    _, group, sizes = labels.unique(return_inverse=True, return_counts=True)
    by_class = group.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    starts = starts[sizes > 1]
    return by_class[starts], by_class[starts + 1], int((sizes == 1).sum())


class NPair(Loss):
    """N-pair loss over dot products of the embeddings.

    It uses two samples of each class, and the other samples of the batch get no gradient: sample two per class.
    Sohn's regulariser pulls norms to 0; on a normalised head it only shifts the value, so `norm_weight` is 0.
    """

    group = "paper"
    aliases = ("n_pairs", "n_pair_mc", "multi_class_n_pair", "multiclass_n_pairs")

    temperature: float = setting(
        default=1.0, check=above_zero, search=SearchRange(0.02, 2.0, log=True)
    )
    norm_weight: float = setting(default=0.0, check=zero_or_more, search=SearchRange(0.0, 0.1))

    def floor(self, labels: Int[Tensor, " batch"]) -> float:
        """log(1 + (C − 1)e^{−C/((C − 1)τ)}) + ½·norm_weight for C classes with a pair, reached by a simplex.

        By Jensen's inequality: on average over c ≠ c', a_c·p_c' − a_c·p_c ≥ −C/(C − 1).
        """
        classes = int((labels.unique(return_counts=True)[1] > 1).sum())
        if classes == 0:
            return 0.0
        negatives = classes - 1
        others = negatives * math.exp(-classes / negatives / self.temperature) if negatives else 0.0
        return math.log1p(others) + self.norm_weight / 2

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        anchor, partner, skipped = first_pairs(labels)
        left, right = embeddings[anchor], embeddings[partner]
        own = torch.eye(len(anchor), dtype=torch.bool, device=labels.device)
        terms = softplus_terms(
            left @ right.T, own, ~own, temperature=self.temperature, tolerance=self.tolerance
        )
        value = terms.value + self.norm_weight / 4 * (left.square().sum(1) + right.square().sum(1))
        attraction = terms.gradient.diagonal()[:, None]
        repulsion = terms.gradient.masked_fill(own, 0)
        pull = _scatter(embeddings, anchor, attraction * right, partner, attraction * left)
        push = _scatter(embeddings, anchor, repulsion @ right, partner, repulsion.T @ left)
        shrink = _scatter(embeddings, anchor, left, partner, right) * (self.norm_weight / 2)

        def per_sample(of_pairs: Tensor) -> Tensor:
            return of_pairs.new_zeros(len(labels)).index_copy_(0, anchor, of_pairs)

        return Outcome(
            value=per_sample(value),
            counts=per_sample(terms.counts),
            active=per_sample((value > self.tolerance).long()),
            weight=per_sample(terms.weight),
            forces=forces(pull, push, whole=pull + push + shrink),
            skipped_anchors=skipped,
            effective_share=effective_share(terms.gradient, pairs=terms.gradient.numel()),
        )


def _scatter(
    like: Tensor, rows: Tensor, values: Tensor, more_rows: Tensor, more_values: Tensor
) -> Tensor:
    return (
        torch.zeros_like(like).index_copy_(0, rows, values).index_copy_(0, more_rows, more_values)
    )
