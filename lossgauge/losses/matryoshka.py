"""Matryoshka: another loss at several widths of the embedding at once, so that its first numbers alone are an embedding.

Kusupati et al. 2022, arXiv 2205.13147, as in sentence-transformers: the sum of the loss over the widths d, d/2, d/4 … of at least `smallest`, each
with weight 1; at each width the first numbers of a row are normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.batch import PairBatch
from lossgauge.losses.base import Outcome
from lossgauge.losses.inner import inner_loss, load_inner
from lossgauge.losses.pairs import PairForm
from lossgauge.losses.settings import count, setting
from lossgauge.sphere import on_sphere, through_normalization


def widths_of(width: int, *, smallest: int) -> list[int]:
    """`width` and its halves, rounded down, of at least `smallest`; never less than `width` itself."""
    widths = [width]
    while widths[-1] // 2 >= smallest:
        widths.append(widths[-1] // 2)
    return widths


def over_widths(
    sides: tuple[Float[Tensor, "_ width"], ...],
    outcome_of: Callable[..., Outcome],
    *,
    smallest: int,
) -> Outcome:
    """The outcome at the full width, with the value, and the gradient at rows and parameters, of the sum over widths."""
    rows = torch.cat(sides)
    sizes = [len(side) for side in sides]
    whole: Outcome | None = None
    gradient = torch.zeros_like(rows)
    for width in widths_of(rows.shape[1], smallest=smallest):
        unit, norms = on_sphere(rows[:, :width])
        outcome = outcome_of(*unit.split(sizes))
        at_unit = outcome.forces.gradient.clone()
        gradient[:, :width] += through_normalization(at_unit, unit, norms.to(unit.dtype))
        if whole is None:
            whole = outcome
            continue
        added = zip(whole.parameter_gradients, outcome.parameter_gradients, strict=True)
        whole = whole._replace(
            value=whole.value + outcome.value,
            parameter_gradients=tuple(one + other for one, other in added),
        )
    assert whole is not None
    return whole._replace(forces=whole.forces._replace(gradient=gradient))


class Matryoshka(PairForm):
    """The loss `of` (a name, also with settings, or a loss) over the widths d, d/2 … `smallest`, rows normalised at each.

    A term is one of that loss at the full width; its value is the sum over widths. W, the active terms, pull, push and the
    effective share are those at the full width, at the normalised rows.
    """

    group = "other"
    wraps_losses = True

    of: Any = setting(default="mnrl", check=inner_loss(lambda kind: kind.pair_form), tunable=False)
    smallest: int = setting(default=16, check=count, tunable=False)

    def prepare(self) -> None:
        self.loss: PairForm = load_inner(self, "of")
        loss = self.loss
        self.needs_guide = loss.needs_guide  # type: ignore[misc]  # those of the loss inside
        self.square_form = loss.square_form  # type: ignore[misc]

    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        return over_widths(
            (embeddings,), lambda rows: self.loss.outcome(rows, labels), smallest=self.smallest
        )

    def outcome_of_pairs(
        self,
        queries: Float[Tensor, "queries width"],
        documents: Float[Tensor, "documents width"],
        batch: PairBatch,
    ) -> Outcome:
        return over_widths(
            (queries, documents),
            lambda left, right: self.loss.outcome_of_pairs(left, right, batch),
            smallest=self.smallest,
        )
