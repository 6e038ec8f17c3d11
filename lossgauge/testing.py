"""The contract that every loss must fulfil: `check_loss(MyLoss())` in a test, or `lossgauge check`.

It cannot know your formula: in your own test, compare the loss with a slow, simple loop.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossgauge.errors import InputError, LossgaugeError
from lossgauge.health.training import ignores_labels
from lossgauge.losses.function_loss import FunctionLoss
from lossgauge.losses.pairs import PairForm, pair_masks
from lossgauge.losses.surrogate import why_surrogate
from lossgauge.training import evaluate
from lossgauge.types import Evaluation
from lossgauge.user_folders import keep_torch_private

_CLASSES, _SAMPLES = 4, 5


class ContractError(LossgaugeError, AssertionError):
    """A loss breaks a rule of the contract."""


class Finding(NamedTuple):
    """One rule, and how the loss breaks it; None if it does not."""

    rule: str
    problem: str | None


def check_loss(
    loss: nn.Module | Callable[[Tensor, Tensor], Tensor], *, embedding_size: int = 16
) -> None:
    """Raises ContractError with every broken rule; takes about a second.

    A loss with parameters, such as one row for each class, must accept the labels 0 … 3 and embeddings of width
    `embedding_size`; the rules about other labels are then skipped.
    """
    if not callable(loss) or isinstance(loss, type):
        raise InputError(
            f"give a loss that can be called with embeddings and labels, such as lossgauge.load_loss('triplet'), got {loss!r}"
        )
    findings = contract(loss, embedding_size=embedding_size)
    broken = [f"{finding.rule}: {finding.problem}" for finding in findings if finding.problem]
    if broken:
        raise ContractError("; ".join(broken))


def contract(
    loss: nn.Module | Callable[[Tensor, Tensor], Tensor], *, embedding_size: int = 16
) -> Iterator[Finding]:
    """Each rule with its result. Works on a float64 copy of the loss."""
    module = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else FunctionLoss(loss)
    if isinstance(module, PairForm) and not module.square_form:
        module = _OverPairs(module)
    case = _Case(module, embedding_size)
    for rule, check in _RULES.items():
        try:
            problem = check(case)
        except Exception as error:  # any error of the user's loss is the result
            problem = f"raises {type(error).__name__}: {error}"
        if problem != _SKIPPED:
            yield Finding(rule, problem)


class _OverPairs(nn.Module):
    """A loss that has no form for labels, over the pairs of a batch with itself, which are its guide if it needs one."""

    def __init__(self, loss: PairForm) -> None:
        super().__init__()
        self.loss = loss

    def evaluate(self, embeddings: Tensor, labels: Tensor) -> Evaluation:
        sides = (embeddings, embeddings, *pair_masks(labels))
        rows = embeddings.detach()
        return self.loss.evaluate_pairs(
            *sides, **{"guide": rows @ rows.T} if self.loss.needs_guide else {}
        )

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.evaluate(embeddings, labels).value


_SKIPPED = "skipped"


class _Case:
    """A loss and a batch for it: unit vectors of four classes, in float64."""

    def __init__(self, loss: nn.Module, embedding_size: int) -> None:
        self.loss = loss
        self.has_parameters = any(True for _ in loss.parameters())
        generator = torch.Generator().manual_seed(0)
        count = _CLASSES * _SAMPLES
        rows = torch.randn(count, embedding_size, dtype=torch.float64, generator=generator)
        self.embeddings = F.normalize(rows)
        self.labels = torch.arange(_CLASSES).repeat(_SAMPLES)

    def value_and_gradient(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        leaf = embeddings.clone().requires_grad_()
        value = self.loss(leaf, labels)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient


def _is_a_scalar(case: _Case) -> str | None:
    value = case.loss(case.embeddings.clone().requires_grad_(), case.labels)
    if not isinstance(value, Tensor) or value.ndim != 0:
        return f"it returns {getattr(value, 'shape', type(value).__name__)}"
    if not value.isfinite():
        return f"it is {value.item()} on unit vectors of four classes"
    return None if value.requires_grad else "it has no graph: no gradient can reach the embeddings"


def _gradient_is_right(case: _Case) -> str | None:
    if why_surrogate(case.loss):
        return _SKIPPED
    leaf = case.embeddings.clone().requires_grad_()
    try:
        torch.autograd.gradcheck(lambda rows: case.loss(rows, case.labels), leaf, atol=_ATOL)
    except RuntimeError as error:
        _, gradient = case.value_and_gradient(case.embeddings, case.labels)
        worst = _worst_entries(gradient, _differences(case), of="differences of the value")
        if worst is None:
            return " ".join(str(error).split())[:300]
        return (
            f"{worst}. If a part is detached on purpose, the loss is a surrogate: give its class `surrogate`, the reason, "
            "and `stated_gradient(embeddings, labels)`"
        )
    return None


def _stated_gradient_is_right(case: _Case) -> str | None:
    if not why_surrogate(case.loss):
        return _SKIPPED
    stated: Callable[..., Tensor] | None = getattr(case.loss, "stated_gradient", None)
    if stated is None:
        return "it says `surrogate`, but has no method `stated_gradient(embeddings, labels)` to compare with"
    _, gradient = case.value_and_gradient(case.embeddings, case.labels)
    wanted = stated(case.embeddings.clone(), case.labels)
    if wanted.shape != gradient.shape:
        return f"`stated_gradient` has the shape {tuple(wanted.shape)}, the embeddings {tuple(gradient.shape)}"
    return _worst_entries(gradient, wanted, of="`stated_gradient`")


_RTOL, _ATOL = 1e-3, 1e-5
"""Those of a comparison with differences in float64, whose own error is about 1e-9 of the value's curvature."""


def _differences(case: _Case, step: float = 1e-6) -> Tensor:
    """The derivative of the value at each entry of the embeddings, by central differences."""
    derivative = torch.empty_like(case.embeddings)
    with torch.no_grad():
        for entry in range(derivative.numel()):
            moved = case.embeddings.repeat(2, 1, 1)
            moved[0].view(-1)[entry] += step
            moved[1].view(-1)[entry] -= step
            above, below = (case.loss(rows, case.labels) for rows in moved)
            derivative.view(-1)[entry] = (above - below) / (2 * step)
    return derivative


def _worst_entries(gradient: Tensor, wanted: Tensor, *, of: str) -> str | None:
    """The three entries that are farthest off, and how many are; None if all agree."""
    error = (gradient - wanted).abs()
    wrong = ~(error <= _ATOL + _RTOL * wanted.abs())
    if not wrong.any():
        return None
    order = error.nan_to_num(torch.inf, torch.inf).flatten().argsort(descending=True)
    width = gradient.shape[1]
    worst = "; ".join(
        f"row {entry // width}, column {entry % width}: {gradient.view(-1)[entry]:.4g} instead of {wanted.view(-1)[entry]:.4g}"
        for entry in order[: min(3, int(wrong.sum()))].tolist()
    )
    return f"{int(wrong.sum())} of {wrong.numel()} entries differ from {of}, most of all {worst}"


def _classes_may_move(case: _Case) -> str | None:
    order = torch.tensor([2, 0, 3, 1])[case.labels].argsort(stable=True)
    value, gradient = case.value_and_gradient(case.embeddings, case.labels)
    moved, moved_gradient = case.value_and_gradient(case.embeddings[order], case.labels[order])
    if not torch.allclose(value, moved):
        return f"the value goes from {float(value):.6g} to {float(moved):.6g}"
    return None if torch.allclose(gradient[order], moved_gradient) else "the gradient changes"


def _uses_labels(case: _Case) -> str | None:
    if not ignores_labels(case.loss, case.embeddings, case.labels):
        return None
    return (
        "labels dealt to other rows give the same value and gradient; do labels (B, 1) meet distances (B,)? "
        "Both broadcast to (B, B)"
    )


def _any_labels(case: _Case) -> str | None:
    if case.has_parameters:
        return _SKIPPED
    names = torch.tensor([-7, 2**62, 0, -(2**62)])
    value, _ = case.value_and_gradient(case.embeddings, case.labels)
    renamed, _ = case.value_and_gradient(case.embeddings, names[case.labels])
    return (
        None
        if torch.allclose(value, renamed)
        else f"{float(value):.6g} becomes {float(renamed):.6g}"
    )


def _no_pairs(case: _Case) -> str | None:
    for words, rows in (
        ("one sample", slice(0, 1)),
        ("one class", case.labels == 0),
        ("no positives", slice(0, 4)),
    ):
        value, gradient = case.value_and_gradient(case.embeddings[rows], case.labels[rows])
        if not (value.isfinite() and gradient.isfinite().all()):
            return f"a batch with {words} gives NaN or Inf"
    return None


def _equal_points(case: _Case) -> str | None:
    twins = case.embeddings.clone()
    twins[1::2] = twins[::2]
    for words, rows in (
        ("duplicates", twins),
        ("all points equal", case.embeddings[:1].expand(len(twins), -1)),
    ):
        value, gradient = case.value_and_gradient(rows, case.labels)
        if not (value.isfinite() and gradient.isfinite().all()):
            return f"a batch with {words} gives NaN or Inf"
    return None


def _any_layout(case: _Case) -> str | None:
    value, _ = case.value_and_gradient(case.embeddings, case.labels)
    turned = case.embeddings.T.contiguous().T
    other, _ = case.value_and_gradient(turned, case.labels)
    return None if torch.allclose(value, other) else "a non-contiguous batch gives another value"


def _keeps_inputs(case: _Case) -> str | None:
    embeddings, labels = case.embeddings.clone(), case.labels.clone()
    case.loss(embeddings, labels)
    same = torch.equal(embeddings, case.embeddings) and torch.equal(labels, case.labels)
    return None if same else "it writes into its arguments"


def _parameters_learn(case: _Case) -> str | None:
    if not case.has_parameters:
        return _SKIPPED
    parameters = dict(case.loss.named_parameters())
    value = case.loss(case.embeddings.clone().requires_grad_(), case.labels)
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    idle = [n for n, g in zip(parameters, gradients, strict=True) if g is None or not g.any()]
    return f"no gradient reaches {', '.join(idle)}" if idle else None


def _brings_classes_together(case: _Case) -> str | None:
    loss = copy.deepcopy(case.loss)
    rows = nn.Parameter(case.embeddings.clone())
    keep_torch_private()
    optimizer = torch.optim.Adam([rows, *loss.parameters()], lr=0.05)
    before = _closeness(case.embeddings, case.labels)
    for _ in range(60):
        optimizer.zero_grad()
        loss(F.normalize(rows), case.labels).backward()
        optimizer.step()
    after = _closeness(F.normalize(rows.detach()), case.labels)
    if after > before:
        return None
    return f"in 60 steps, classes went apart (similarity inside less outside: {before:.3f} → {after:.3f})"


def _closeness(rows: Tensor, labels: Tensor) -> float:
    similarity, same = rows @ rows.T, labels[:, None] == labels
    return float(similarity[same].mean() - similarity[~same].mean())


def _evaluation_agrees(case: _Case) -> str | None:
    if not hasattr(case.loss, "evaluate"):
        return _SKIPPED
    e = evaluate(case.loss, case.embeddings, case.labels)
    value = case.loss(case.embeddings, case.labels)
    if not torch.allclose(e.value, value):
        return f"evaluate says {e.value.item():.6g}, forward {value.item():.6g}"
    if (
        e.term_count is not None
        and e.active_count is not None
        and not 0 <= e.active_count <= e.term_count
    ):
        return f"active_count {e.active_count} is not in 0 … term_count {e.term_count}"
    weights = e.anchor_weight
    if (
        weights is not None
        and not ((weights.nan_to_num() >= 0) & (weights.nan_to_num() <= 1 + 1e-9)).all()
    ):
        return "anchor_weight leaves [0, 1]"
    return None


_RULES: dict[str, Callable[[_Case], str | None]] = {
    "its value is a finite scalar with a graph": _is_a_scalar,
    "its gradient agrees with finite differences": _gradient_is_right,
    "its gradient, that of a surrogate, is the stated one": _stated_gradient_is_right,
    "the order of rows does not matter (order inside a class may)": _classes_may_move,
    "it depends on which row has which label": _uses_labels,
    "labels may be any integers": _any_labels,
    "a batch without pairs gives no NaN": _no_pairs,
    "equal points give no NaN": _equal_points,
    "the memory layout does not matter": _any_layout,
    "its arguments stay as they were": _keeps_inputs,
    "its own parameters get a gradient": _parameters_learn,
    "descending it brings classes together": _brings_classes_together,
    "evaluate agrees with forward": _evaluation_agrees,
}
