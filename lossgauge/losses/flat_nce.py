"""FlatNCE: the gradient of NSCL, with a value that is always 1.

Chen et al. 2021, arXiv 2107.01152. A term is an ordered positive pair of value e^{v − sg(v)}, v = log Σ_{n∈N(i)} e^{s_in/τ} − s_ip/τ, where sg stops
the gradient. The value is 1 and says nothing; the gradient is that of v, also where v is too small for a softplus.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.losses.base import Outcome, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.nscl import nscl_kernel, nscl_terms
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss, pair_masks
from lossgauge.losses.settings import SearchRange, above_zero, setting
from lossgauge.losses.surrogate import Surrogate


class FlatNCE(Surrogate, PairLoss):
    """FlatNCE over dot products of the embeddings; normalise them first for cosines. W = 1 for each term."""

    group = "related"
    aliases = ("flat_info_nce",)
    surrogate = "its value is always 1"

    matrix = DOT_PRODUCTS
    temperature: float = setting(
        default=0.1, check=above_zero, search=SearchRange(0.01, 1.0, log=True)
    )

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        terms = nscl_terms(matrix, positive, negative, temperature=self.temperature)
        return terms._replace(value=terms.weight.clone())

    def kernel(self) -> KernelSpec:
        return nscl_kernel(self.temperature, self.tolerance)

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        outcome = super().outcome(embeddings, labels)
        return outcome._replace(value=outcome.counts.to(outcome.value.dtype))

    def stated_gradient(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """By autograd, of the mean of v."""
        positive, negative = pair_masks(labels)
        valid = positive & negative.any(dim=1, keepdim=True)
        rows = embeddings.detach().clone().requires_grad_()
        with torch.enable_grad():
            logits = rows @ rows.T / self.temperature
            anchor, partner = valid.nonzero(as_tuple=True)
            of_negatives = logits[anchor].masked_fill(~negative[anchor], -torch.inf)
            v = of_negatives.logsumexp(dim=1) - logits[anchor, partner]
            (gradient,) = torch.autograd.grad(v.sum() / max(1, len(v)), rows)
        return gradient
