"""The gradient of a pair loss at its own matrix: what the measurements of weights and directions read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.errors import InputError
from lossgauge.losses.pairs import PairLoss, pair_masks
from lossgauge.types import PairGradient


def pair_gradient(
    loss: nn.Module, embeddings: ArrayLike, labels: ArrayLike, *, per_pair: bool = False
) -> PairGradient:
    """G of a pair loss on a batch, in float64, before the reducer. Memory grows as batch².

    A row is an anchor; with `per_pair` it is an ordered positive pair, as if the anchor had no other positive, and memory grows as
    positive pairs × batch. Raises InputError for a loss that does not weight pairs of samples, and, with `per_pair`, for one whose gradient is
    not the sum over its positive pairs (`scl`; `contrastive`, which has terms without a positive).
    """
    if not isinstance(loss, PairLoss) or not loss.square_form:
        raise InputError(
            "a gradient at pairs needs a loss that weights pairs of samples, such as info_nce or triplet, "
            f"got {type(loss).__name__}"
        )
    rows, numbers = as_batch(embeddings, labels)
    exact = rows.detach().double()
    if loss.matrix.is_distance:
        exact = exact - exact[:1]  # see `PairLoss`
    positive, negative = pair_masks(numbers)
    matrix = loss.matrix.of(exact)
    with torch.no_grad():
        terms = loss.terms(matrix, positive, negative)
        if not per_pair:
            anchor = torch.arange(len(rows), device=rows.device)
            return PairGradient(
                terms.gradient, terms.counts, anchor, positive, negative, loss.matrix.is_distance
            )
        anchor, partner = positive.nonzero(as_tuple=True)
        alone = torch.zeros(len(anchor), len(rows), dtype=torch.bool, device=rows.device)
        alone[torch.arange(len(anchor), device=rows.device), partner] = True
        of_pairs = loss.terms(matrix[anchor], alone, negative[anchor])
    _check_sum(loss, terms.gradient, of_pairs.gradient, anchor)
    return PairGradient(
        of_pairs.gradient, of_pairs.counts, anchor, alone, negative[anchor], loss.matrix.is_distance
    )


def _check_sum(loss: PairLoss, whole: Tensor, of_pairs: Tensor, anchor: Tensor) -> None:
    total = torch.zeros_like(whole).index_add_(0, anchor, of_pairs)
    if not torch.allclose(total, whole, rtol=1e-9, atol=1e-9 * float(whole.abs().max())):
        raise InputError(
            f"the gradient of {type(loss).__name__} is not the sum over its positive pairs; leave out per_pair, "
            "and compare its anchors"
        )
