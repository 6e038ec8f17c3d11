"""SigLIP: a logistic loss of every pair, positive or negative, with a trained scale and bias.

Zhai et al. 2023, arXiv 2303.15343. A term is an ordered pair of value softplus(−y(t·s + b)), y = 1 for a positive and −1 for a negative;
t = e^{t'}. The paper divides the sum by the batch size; here it is a mean over pairs, like all losses.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lossgauge.errors import InputError
from lossgauge.losses.base import Outcome, Terms
from lossgauge.losses.compiled import KernelSpec
from lossgauge.losses.pairs import DOT_PRODUCTS, PairLoss
from lossgauge.losses.settings import SearchRange, above_zero, any_finite, setting


def siglip_terms(
    similarity: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows columns"],
    negative: Bool[Tensor, "rows columns"],
    *,
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    tolerance: float,
) -> Terms:
    """Terms over ordered pairs; W = σ(−y(t·s + b)). The gradients at the parameters are those at log t and at b."""
    pairs = positive | negative
    logits = similarity * scale + bias
    v = torch.where(positive, -logits, logits)
    # not torch's softplus, which ignores e^{−v} above a threshold of 20
    value = torch.logaddexp(v, v.new_zeros(())).mul_(pairs)
    weight = v.sigmoid_().mul_(pairs)
    at_logits = torch.where(positive, -weight, weight)
    gradient = at_logits * scale
    return Terms(
        value=value.sum(dim=1),
        counts=pairs.sum(dim=1),
        active=(value > tolerance).sum(dim=1),
        weight=weight.sum(dim=1),
        gradient=gradient,
        parameter_gradients=((gradient * similarity).sum(), at_logits.sum()),
    )


class SigLIP(PairLoss):
    """SigLIP over dot products; normalise the rows first for cosines.

    `scale` and `bias` are where the trained parameters `log_scale` and `offset` start.
    """

    group = "related"
    aliases = ("sigmoid_contrastive",)

    matrix = DOT_PRODUCTS
    scale: float = setting(default=10.0, check=above_zero, search=SearchRange(1.0, 100.0, log=True))
    bias: float = setting(default=-10.0, check=any_finite, search=SearchRange(-20.0, 0.0))

    def prepare(self) -> None:
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.scale)))
        self.offset = nn.Parameter(torch.tensor(self.bias))

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        if matrix.device != self.log_scale.device:
            raise InputError(
                f"this loss has its parameters on {self.log_scale.device}, got embeddings on {matrix.device}; "
                f"move it with .to({str(matrix.device)!r})"
            )
        return siglip_terms(
            matrix,
            positive,
            negative,
            scale=self.log_scale.to(matrix.dtype).exp(),
            bias=self.offset.to(matrix.dtype),
            tolerance=self.tolerance,
        )

    def kernel(self) -> KernelSpec | None:
        if self.log_scale.device.type != "cpu":
            return None
        from lossgauge.kernels.siglip import logistic_rows

        return KernelSpec(
            logistic_rows,
            (float(self.log_scale.detach().double().exp()), self.tolerance),
            counts=lambda positives, negatives: positives + negatives,
            further=(float(self.offset.detach()),),
            finish=_with_parameter_gradients,
        )


def _with_parameter_gradients(outcome: Outcome, sums: Float[Tensor, "2 batch"]) -> Outcome:
    at_parameters = sums.sum(dim=1).to(outcome.value.dtype)
    return outcome._replace(parameter_gradients=(at_parameters[0], at_parameters[1]))
