"""Multiple negatives ranking: the right document against all other documents of the batch.

Henderson et al. 2017, arXiv 1705.00652; the usual loss for queries and documents (sentence-transformers). A term is a positive
pair (query, document) of value softplus(v), v = log Σ_negatives e^{scale·s} − scale·s_positive: hard negatives are documents
like any other. It is InfoNCE with temperature 1/scale. `symmetric=True` adds for each pair the term of its document against the queries.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from lossgauge.losses.base import Near, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, setting, true_or_false
from lossgauge.losses.softmax_family import softplus_pairs, softplus_terms


class MNRL(PairLoss):
    """Multiple negatives ranking over dot products; normalise the rows first for cosines.

    In both directions, the terms of a pair belong to its query. Over labels every pair is there in both orders, so
    `symmetric` changes no value.
    """

    group = "other"
    aliases = ("multiple_negatives_ranking", "mnr", "multiple_negatives")
    near = (
        Near(
            "multiple_negatives_symmetric_ranking",
            "multiple_negatives_ranking_symmetric",
            differs="with symmetric: true it averages over both directions, as it does",
        ),
        Near(
            "cached_multiple_negatives_ranking",
            differs="it has the same value, for the batch that fits into memory",
        ),
    )

    matrix = DOT_PRODUCTS
    scale: float = setting(default=20.0, check=above_zero, search=SearchRange(1.0, 100.0, log=True))
    symmetric: bool = setting(default=False, check=true_or_false, tunable=False)

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        temperature = 1 / self.scale
        if not self.symmetric:
            return softplus_terms(
                matrix, positive, negative, temperature=temperature, tolerance=self.tolerance
            )
        there = softplus_pairs(matrix, positive, negative, temperature=temperature)
        back = softplus_pairs(matrix.T, positive.T, negative.T, temperature=temperature)
        active = (there.value > self.tolerance).sum(dim=1) + (back.value > self.tolerance).sum(
            dim=0
        )
        return Terms(
            value=there.value.sum(dim=1) + back.value.sum(dim=0),
            counts=2 * positive.sum(dim=1),
            active=active,
            weight=there.weight.sum(dim=1) + back.weight.sum(dim=0),
            gradient=there.gradient + back.gradient.T,
        )

    def kernel(self) -> KernelSpec | None:
        if self.symmetric:
            return None
        from lossgauge.kernels.info_nce import softplus_rows

        return KernelSpec(
            softplus_rows,
            (1 / self.scale, self.tolerance),
            counts=lambda positives, negatives: positives,
        )
