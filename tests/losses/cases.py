"""Batches for the losses, and the one comparison with a slow loop."""

from collections.abc import Callable
from functools import partial
from itertools import product
from unittest.mock import patch

import torch
from torch import Tensor

from lossgauge.losses.base import Loss, Outcome
from lossgauge.losses.pairs import PairLoss
from lossgauge.losses.proxies import ProxyLoss

Batch = tuple[Tensor, Tensor]
SlowLoss = Callable[[Tensor, Tensor], list[Tensor]]

BATCHES = {
    "balanced": [0, 1, 2, 3] * 5,
    "unbalanced": [0] * 9 + [1] * 2 + [2] * 5 + [3] * 3,
    "with lone samples": [0] * 4 + [1, 2, 3] + [4] * 3,
    "two classes": [0, 1, 1, 0, 1, 0, 0],
}


def make_batch(labels: list[int], *, seed: int = 0, width: int = 6, unit: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(labels), width, dtype=torch.float64, generator=generator)
    order = torch.randperm(len(labels), generator=generator)
    return (torch.nn.functional.normalize(rows) if unit else rows), torch.tensor(labels)[order]


def assert_agrees(loss: Loss, slow: SlowLoss, batch: Batch) -> None:
    """Value, gradient and counts of `loss` are those of `slow`, which lists every term: under both reductions,
    by its kernel and by its plain torch form, where it has both.
    """
    embeddings, labels = batch
    slow_rows = embeddings.clone().requires_grad_()
    terms = slow(slow_rows, labels)
    active = [term for term in terms if term > loss.tolerance]
    total = torch.stack(terms).sum()
    of_total = torch.autograd.grad(total, [slow_rows, *loss.parameters()])
    forms = [loss.outcome]
    if isinstance(loss, PairLoss | ProxyLoss):
        forms.append(partial(without_kernel, loss))
    for form, (reduction, count) in product(forms, (("mean", len(terms)), ("active", len(active)))):
        loss.reduction = reduction
        rows = embeddings.clone().requires_grad_()
        with patch.object(loss, "outcome", form):
            evaluation = loss.evaluate(rows, labels)
        gradient = torch.autograd.grad(evaluation.value, [rows, *loss.parameters()])
        torch.testing.assert_close(evaluation.value, total / count, rtol=1e-10, atol=1e-12)
        for found, wanted in zip(gradient, of_total, strict=True):
            torch.testing.assert_close(found, wanted / count, rtol=1e-8, atol=1e-11)
        assert evaluation.term_count == len(terms)
        assert evaluation.active_count == len(active)


def without_kernel(loss: Loss, embeddings: Tensor, labels: Tensor) -> Outcome:
    """`loss.outcome` by its plain torch form."""
    nothing = lambda *_, **__: None  # noqa: E731
    with (
        patch("lossgauge.losses.proxies.compiled_negative_terms", nothing),
        patch("lossgauge.losses.pairs.compiled_outcome", nothing),
    ):
        return type(loss).outcome(loss, embeddings, labels)


def assert_same_as_peer(loss: Loss, peer: torch.nn.Module, batch: Batch) -> None:
    """Value and gradient are those of another library's loss."""
    embeddings, labels = batch
    results = []
    for function in (loss, peer):
        rows = embeddings.clone().requires_grad_()
        value = function(rows, labels)
        results.append((value.detach(), *torch.autograd.grad(value, rows)))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
