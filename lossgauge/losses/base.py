"""The contract of a loss, and the reducer that all losses share.

A loss computes, in closed form and one pass, the sum of its term values for each anchor and the gradient of that sum,
with the part from positives (pull) and from negatives (push). This file does the rest: the mean over terms, the
checks of number ranges, and the connection to autograd.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from lossgauge.batch import ArrayLike, checked_batch
from lossgauge.errors import InputError
from lossgauge.losses.closed_form import ClosedFormGradient
from lossgauge.losses.settings import Configurable, one_of, setting, zero_or_more
from lossgauge.types import NO_COLUMNS, Evaluation

USUAL_ENTRIES = (1e-12, 1e12)
"""If the largest entry is in this range, float32 can hold all squares and sums; other batches are computed in float64."""


class Terms(NamedTuple):
    """Sums over the terms of each anchor (a row of the matrix), and their gradient at the matrix."""

    value: Float[Tensor, " rows"]
    counts: Int[Tensor, " rows"]
    """Valid terms."""
    active: Int[Tensor, " rows"]
    """Terms above the tolerance."""
    weight: Float[Tensor, " rows"]
    """Sum of W, each in [0, 1]."""
    gradient: Float[Tensor, "rows columns"]
    """∂(sum of all values)/∂matrix."""
    repulsion: Float[Tensor, "rows columns"] | None = None
    """The part of `gradient` that pushes positives away; None if there is none."""
    parameter_gradients: tuple[Tensor, ...] = ()
    """∂(sum of all values)/∂parameter, for each of the loss's parameters in their order."""
    columns: Mapping[str, float] = NO_COLUMNS
    """The numbers that `Loss.columns` names."""


class Forces(NamedTuple):
    """Gradient of the sum of all term values at the embeddings, and the norms of its two parts for each sample."""

    gradient: Float[Tensor, "batch width"]
    pull: Float[Tensor, " batch"]
    push: Float[Tensor, " batch"]


class Near:
    """Names of another, similar loss, and one line on how our loss differs from it."""

    def __init__(self, *names: str, differs: str) -> None:
        self.names, self.differs = names, differs


class Outcome(NamedTuple):
    """The result of a loss on one batch, for each sample and before the reducer."""

    value: Float[Tensor, " batch"]
    counts: Real[Tensor, " batch"]
    """Valid terms; fractions where a term is divided among samples."""
    active: Real[Tensor, " batch"]
    weight: Float[Tensor, " batch"]
    forces: Forces
    skipped_anchors: int
    effective_share: float
    parameter_gradients: tuple[Tensor, ...] = ()
    """∂(sum of all values)/∂parameter, for each of the loss's parameters in their order."""
    anchor_count: int | None = None
    """See `Evaluation`."""
    columns: Mapping[str, float] = NO_COLUMNS


class _Reduced(NamedTuple):
    """An outcome with its means over terms."""

    outcome: Outcome
    term_count: int
    active_count: int
    scale: float
    value: Float[Tensor, ""]
    pull: Float[Tensor, ""]
    push: Float[Tensor, ""]

    def is_finite(self) -> bool:
        """Whether value and gradient are finite: the gradient is finite if the norms of its parts are."""
        return math.isfinite((self.value + self.pull + self.push).item())

    def fits(self, number: torch.dtype) -> bool:
        """Whether the type `number` can hold the value and the mean gradients; not checked in every step."""
        gradients = [self.outcome.forces.gradient, *self.outcome.parameter_gradients]
        sizes = [float(gradient.abs().max()) * self.scale for gradient in gradients]
        return all(size <= torch.finfo(number).max for size in (abs(float(self.value)), *sizes))


class Loss(Configurable, nn.Module, ABC):
    """Abstract: a loss over a batch of embeddings and integer labels. Its class declares its settings and its names.

    `reduction="mean"` averages over all valid terms, `"active"` over the terms above `tolerance`; the gradient
    of `"active"` is that of `"mean"` divided by the active ratio. Without a valid (or active) term, the value is
    0 with a graph, and the gradient is exactly 0.
    """

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the same loss. Case, separators and a final "loss" do not matter."""
    near: ClassVar[tuple[Near, ...]] = ()
    """Similar losses that users may look for; this loss is the nearest one."""
    group: ClassVar[Literal["paper", "related", "other", "experiment"]] = "other"
    """`paper`: one of the seven of the paper; `related`: of the papers beside it; `experiment`: made of other losses to compare
    these, so it is not among `all`; `other`: any other."""
    pair_form: ClassVar[bool] = False
    """Whether it has `evaluate_pairs`, the form for queries and documents."""
    square_form: ClassVar[bool] = True
    """Whether it has `evaluate`, the form for embeddings and labels."""
    wraps_losses: ClassVar[bool] = False
    """Whether a setting names another loss, whose code then counts for its runs."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Names of further numbers that its evaluations contain; each is a share from 0 to 1."""
    drawn_terms: ClassVar[Literal["pair", "triplet"] | None] = None
    """The term that the sampler `drawn` draws for each anchor; None if the loss has no `evaluate_drawn`."""

    reduction: str = setting(default="mean", check=one_of("mean", "active"), tunable=False)
    tolerance: float = setting(default=1e-6, check=zero_or_more, tunable=False)

    @property
    def entries(self) -> tuple[float, float]:
        """The range of the largest entry in which `outcome` is correct in float64; `evaluate` refuses others."""
        return 0.0, math.inf

    def floor(self, labels: Int[Tensor, " batch"]) -> float:
        """A lower bound of the value for unit vectors with these labels; training cannot go below it."""
        return 0.0

    @abstractmethod
    def outcome(
        self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]
    ) -> Outcome:
        """Terms and forces of a batch, called without a graph, in float32 or float64."""

    def evaluate(self, embeddings: ArrayLike, labels: ArrayLike) -> Evaluation:
        """The value and the diagnostics of one pass; see `Evaluation`. Memory grows as batch² (batch × classes).

        Half-precision embeddings are computed in float32, embeddings of an unusual size in float64; the gradient has
        the type of the embeddings. Raises InputError if that type cannot hold the numbers.
        Differentiable only once: backward with `create_graph=True` raises InputError.
        """
        if not self.square_form:
            raise InputError(
                f"{type(self).__name__} compares queries with documents, and has no form for labels; call "
                "evaluate_pairs(queries, documents, positive), or choose a loss for labels"
            )
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            # torch.compile cannot trace a compiled kernel: it breaks its graph here, and this part runs without it
            evaluation: Evaluation = torch.compiler.disable(self._evaluate)(
                embeddings, labels, self.outcome
            )
            return evaluation
        return self._evaluate(embeddings, labels, self.outcome)

    def _evaluate(
        self, embeddings: ArrayLike, labels: ArrayLike, outcome_of: Callable[..., Outcome]
    ) -> Evaluation:
        """The evaluation from `outcome_of`, which is `outcome`, or gives the outcome of other terms of the batch."""
        rows, numbers, largest = checked_batch(embeddings, labels)
        return self._computed((rows,), largest, lambda rows: outcome_of(rows, numbers))

    def _computed(
        self,
        inputs: tuple[Float[Tensor, "_ width"], ...],
        largest: float,
        outcome_of: Callable[..., Outcome],
    ) -> Evaluation:
        """The evaluation from `outcome_of(*inputs)`, whose forces are those of all rows: one input after the other."""
        number = torch.float32
        for rows in inputs:
            number = torch.promote_types(number, rows.dtype)
        with torch.no_grad(), _full_precision(inputs[0].device.type):
            at = [rows.detach().to(number) for rows in inputs]
            usual = not largest or USUAL_ENTRIES[0] <= largest <= USUAL_ENTRIES[1]
            if not usual:
                self._check_size(largest)
            if not usual:
                at = [rows.double() for rows in at]
            reduced = self._reduced(outcome_of(*at))
            if usual and not reduced.is_finite():  # a small temperature can cause this
                usual = False
                reduced = self._reduced(outcome_of(*(rows.double() for rows in at)))
            if not usual and not reduced.fits(number):
                raise InputError(
                    f"the loss or its gradient is outside the range of {number} for embeddings whose largest entry "
                    f"is {largest:.2g}; normalise the rows"
                )
        outcome = reduced.outcome
        anchors = outcome.counts.to(outcome.value.dtype)
        at_inputs = [outcome.forces.gradient]
        if len(inputs) > 1:
            at_inputs = [*at_inputs[0].split([len(rows) for rows in inputs])]
        gradients = [*at_inputs, *outcome.parameter_gradients]
        value, pull, push = reduced.value, reduced.pull, reduced.push
        if not usual:
            value, pull, push = value.to(number), pull.to(number), push.to(number)
        return Evaluation(
            value=ClosedFormGradient.apply(
                value, reduced.scale, gradients, *inputs, *self.parameters()
            ),
            term_count=reduced.term_count,
            active_count=reduced.active_count,
            skipped_anchors=outcome.skipped_anchors,
            anchor_value=outcome.value / anchors,  # 0/0 is NaN: no term, no mean
            anchor_weight=outcome.weight / anchors,
            pull=pull,
            push=push,
            effective_share=outcome.effective_share,
            anchor_count=outcome.anchor_count,
            columns=outcome.columns,
        )

    def _reduced(self, outcome: Outcome) -> _Reduced:
        counts = torch.stack((outcome.counts.sum(), outcome.active.sum()))
        # counts of a term that is divided among samples are fractions
        term_count, active_count = (round(count) for count in counts.tolist())
        scale = reduction_scale(term_count, active_count, reduction=self.reduction)
        return _Reduced(
            outcome,
            term_count,
            active_count,
            scale,
            value=outcome.value.sum() * scale,
            pull=outcome.forces.pull.mean() * scale,
            push=outcome.forces.push.mean() * scale,
        )

    def _check_size(self, largest: float) -> None:
        lowest, highest = self.entries
        if not lowest <= largest <= highest:
            raise InputError(
                f"the largest entry of the embeddings must be in {lowest:g} … {highest:g}, got {largest:.2g}: "
                f"its square would be outside the range of float64; rescale the rows"
            )

    def forward(self, embeddings: ArrayLike, labels: ArrayLike) -> Tensor:
        """`evaluate(embeddings, labels).value`: a differentiable scalar."""
        return self.evaluate(embeddings, labels).value


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Without autocast, which would round similarities to half precision; entering its context costs 3 % of a small batch."""
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def forces(
    pull: Float[Tensor, "batch width"],
    push: Float[Tensor, "batch width"],
    *,
    whole: Float[Tensor, "batch width"] | None = None,
) -> Forces:
    """The gradient from its two parts; `whole` if it is more than their sum, or already known."""
    return Forces(pull + push if whole is None else whole, pull.norm(dim=1), push.norm(dim=1))


def reduction_scale(term_count: int, active_count: int, *, reduction: str) -> float:
    """The factor for the sum over terms: 1/terms or 1/active terms; 0 without such terms."""
    divisor = term_count if reduction == "mean" else active_count
    return 1.0 / divisor if divisor else 0.0


def effective_share(weights: Float[Tensor, "rows columns"], *, pairs: int) -> float:
    """(Σ|w|)²/Σw² as a share of `pairs`: 1 if all weights are equal; NaN if all weights are 0."""
    # norm(2) is computed on weights/max: squares of tiny weights would underflow in float32
    if pairs == 0 or weights.numel() == 0:
        return float("nan")
    largest = float(torch.linalg.vector_norm(weights, torch.inf))
    if largest == 0:
        return float("nan")
    total = float(torch.linalg.vector_norm(weights, 1)) / largest
    root = float(torch.linalg.vector_norm(weights / largest, 2))
    return share_of(total, root**2, pairs=pairs)


def share_of(total: float, squares: float, *, pairs: int) -> float:
    """`effective_share` from Σ|w| and Σw²."""
    return total**2 / squares / pairs if squares else float("nan")
