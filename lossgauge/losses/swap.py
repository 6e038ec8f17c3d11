"""A loss with the weights of one loss and the directions of another, to see which of the two makes the difference.

arXiv 2510.14824. Row i of the gradient of `direction_of` at the matrix is multiplied by W^A_i / W^B_i, with W_i = ½ Σ_j |G_ij| / terms and
G the gradient of the sum of all terms.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lossgauge.batch import ArrayLike
from lossgauge.errors import InputError
from lossgauge.losses.base import Terms
from lossgauge.losses.inner import inner_loss, load_inner
from lossgauge.losses.pair_gradient import pair_gradient
from lossgauge.losses.pairs import PairLoss, PairMatrix, weights_pairs_of_samples
from lossgauge.losses.settings import MEASURED, setting
from lossgauge.losses.surrogate import Surrogate


def weight(name: str, value: Any) -> str | nn.Module | float:
    """`value` as a loss, or as a number above 0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < math.inf:
            raise InputError(f"{name} must be a loss or a positive number, got {value}")
        return float(value)
    return inner_loss(weights_pairs_of_samples)(name, value)  # type: ignore[no-any-return]


class Swap(Surrogate, PairLoss):
    """A surrogate: its gradient is a rule and not that of its value, which is the value of `direction_of`; decay is not defined.

    Each of the two is the name of a loss, also with settings, or a loss; `weight_of` may be a number, which all anchors get.
    A row in which `direction_of` has no gradient gets none, however strong the other loss is: `silent_anchors` counts these rows. Their terms stay in
    the mean, so that a loss swapped with itself is itself.
    """

    surrogate = "its rows have the weights of another loss"
    group = "experiment"
    wraps_losses = True

    weight_of: Any = setting(default="info_nce", check=weight, tunable=False)
    direction_of: Any = setting(
        default="siglip", check=inner_loss(weights_pairs_of_samples), tunable=False
    )

    def prepare(self) -> None:
        given = self.__dict__.get("weight_of")
        self.weights: PairLoss | float = (
            given if isinstance(given, float) else load_inner(self, "weight_of")
        )
        self.directions: PairLoss = load_inner(self, "direction_of")
        if isinstance(self.weights, PairLoss):
            _check_matrix(self.weights, self.directions)

    @property
    def matrix(self) -> PairMatrix:  # type: ignore[override]
        return self.directions.matrix

    def terms(
        self,
        matrix: Float[Tensor, "rows columns"],
        positive: Bool[Tensor, "rows columns"],
        negative: Bool[Tensor, "rows columns"],
    ) -> Terms:
        direction = self.directions.terms(matrix, positive, negative)
        strength = _strength(direction)
        weights = None
        if isinstance(self.weights, PairLoss):
            weights = self.weights.terms(matrix, positive, negative)
            wanted, shown = _strength(weights), weights.weight / weights.counts
        else:
            wanted = torch.full_like(strength, self.weights)
            shown = wanted.clamp(max=1)
        moved = (strength > 0) & ~wanted.isnan()
        factor = torch.where(moved, wanted / strength, 0)
        return direction._replace(
            active=direction.active * (moved & (wanted > 0)),
            weight=torch.where(moved, shown, 0) * direction.counts,
            gradient=direction.gradient * factor[:, None],
            repulsion=None
            if direction.repulsion is None
            else direction.repulsion * factor[:, None],
            parameter_gradients=self._parameter_gradients(direction, weights),
            columns={},
        )

    def _parameter_gradients(self, direction: Terms, weights: Terms | None) -> tuple[Tensor, ...]:
        """Each loss trains its own parameters as if it were alone: with the gradient of its mean over its own terms."""
        if weights is None or self.weights is self.directions:
            return direction.parameter_gradients
        # the reducer divides by the terms of `direction_of`
        share = int(direction.counts.sum()) / max(1, int(weights.counts.sum()))
        own = tuple(gradient * share for gradient in weights.parameter_gradients)
        return own + direction.parameter_gradients

    def stated_gradient(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """The gradient at the embeddings by the definition, for the mean over terms."""
        direction = pair_gradient(self.directions, embeddings, labels)
        wanted: Tensor | float = (
            pair_gradient(self.weights, embeddings, labels).weight
            if isinstance(self.weights, PairLoss)
            else self.weights
        )
        factor = (wanted / direction.weight).nan_to_num(0, posinf=0) / direction.terms.sum()
        moved = direction.gradient * factor[:, None]
        rows = embeddings.detach().double()
        return self.matrix.at_rows(moved + moved.T, rows, rows).to(embeddings.dtype)

    def silent_anchors(self, embeddings: ArrayLike, labels: ArrayLike) -> int:
        """Rows of a batch that `weight_of` would move, but in which `direction_of` has no gradient."""
        silent = ~(pair_gradient(self.directions, embeddings, labels).weight > 0)
        if isinstance(self.weights, PairLoss):
            silent &= pair_gradient(self.weights, embeddings, labels).weight > 0
        return int(silent.sum())


def swap(*, weight_of: nn.Module | float, direction_of: nn.Module) -> Swap:
    """A loss that moves each anchor as far as `weight_of` and in the direction of `direction_of`; a number gives all anchors this weight.

    Both losses weight the same matrix: dot products (info_nce, nscl, siglip, scl) or squared distances (contrastive, triplet). It takes the reduction and
    the terms of `direction_of`, costs both losses in plain torch, and has no kernel. Anchors with several positives are moved as a whole:
    only with one positive each is swap(info_nce, nscl) equal to info_nce. Parameters of a loss, such as the scale of siglip, are trained as if it were
    alone. Raises InputError for other losses, two matrices, and a weight that is not positive.
    """
    measured = {key: getattr(direction_of, key) for key in MEASURED if hasattr(direction_of, key)}
    return Swap(weight_of=weight_of, direction_of=direction_of, **measured)


def _check_matrix(weight: PairLoss, direction: PairLoss) -> None:
    if weight.matrix is not direction.matrix:
        first, second = (
            f"{type(loss).__name__} weights {'squared distances' if loss.matrix.is_distance else 'dot products'}"
            for loss in (weight, direction)
        )
        raise InputError(
            f"a swap needs two losses of one matrix, but {first} and {second}: choose both from one group"
        )


def _strength(of: Terms) -> Float[Tensor, " rows"]:
    """W_i; NaN for a row without a term."""
    return of.gradient.abs().sum(dim=1) / 2 / of.counts
