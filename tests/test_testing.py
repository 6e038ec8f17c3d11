import re

import pytest
import torch

from lossgauge.losses.registry import ALL_LOSSES, load_loss, settings_of
from lossgauge.losses.triplet import Triplet
from lossgauge.testing import ContractError, check_loss

# mnrl is info_nce with another scale, matryoshka is mnrl at several widths, gist masks what mnrl takes, and mined what triplet takes
SLOW = ("mnrl", "matryoshka", "gist", "mined")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in ALL_LOSSES]
)
def test_each_of_our_losses_keeps_the_contract(name):
    torch.manual_seed(0)
    sizes = {"class_count": 4, "embedding_size": 16} if "class_count" in settings_of(name) else {}
    check_loss(load_loss(name, **sizes))


def pairs(z, y):
    return ((y[:, None] == y) * (z[:, None] - z).square().sum(2)).sum() / len(y) ** 2


def test_a_plain_function_keeps_it_too():
    check_loss(pairs)


class Forgetful(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, z, y):
        return pairs(z, y) * self.scale.detach()


class DetachedHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad / 2


class Overcounted(Triplet):
    def evaluate(self, embeddings, labels):
        e = super().evaluate(embeddings, labels)
        return e._replace(active_count=e.term_count + 1)


def into_arguments(z, y):
    with torch.no_grad():
        z.mul_(1.0000001)
    return pairs(z, y)


def without_labels(z, y):
    """Spreads rows out; the similarity of rows to themselves counts as inside, so classes seem to come together."""
    return (z @ z.T).exp().mean()


def broadcast(z, y):
    """All pairs; a column of labels against a row of distances makes every combination of both."""
    one, other = torch.triu_indices(len(z), len(z), 1)
    distance = (z[one] - z[other]).square().sum(1)
    same = (y[one] == y[other]).to(z.dtype)[:, None]
    return (same * distance + (1 - same) * (1 - distance).clamp(min=0)).mean()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (without_labels, "which row has which label: labels dealt to other rows"),
        (
            broadcast,
            r"labels dealt to other rows give the same value and gradient; do labels \(B, 1\)",
        ),
        (lambda z, y: -pairs(z, y), "brings classes together: in 60 steps, classes went apart"),
        (lambda z, y: pairs(z, y) + (z[0] - z[-1]).square().sum(), "order of rows"),
        (lambda z, y: pairs(z, y) * (1 + y.max()), "labels may be any integers"),
        (lambda z, y: (z[:, None] - z).norm(dim=2).add(pairs(z, y)).pow(-1).sum(), "NaN"),
        (lambda z, y: pairs(z, y).detach(), "no graph"),
        (lambda z, y: pairs(z, y)[None], "it returns torch.Size"),
        (lambda z, y: DetachedHalf.apply(pairs(z, y)), "agrees with finite differences"),
        (lambda z, y: z.nope, "raises AttributeError"),
        (Forgetful(), "no gradient reaches scale"),
        (Overcounted(), r"active_count 1201 is not in 0 … term_count 1200"),
        (into_arguments, "writes into its arguments"),
    ],
)
def test_each_broken_rule_is_found_and_named(loss, message):
    with pytest.raises(ContractError, match=message):
        check_loss(loss)


def published_circle(z, y):
    """Circle loss as published: the weights are detached, so the gradient is no derivative of the value."""
    s, same = z @ z.T, y[:, None] == y
    positive = same & ~torch.eye(len(y), dtype=torch.bool)
    pull = -80 * (1.4 - s.detach()).relu() * (s - 0.6)
    push = 80 * (s.detach() + 0.4).relu() * (s - 0.4)
    v = pull.masked_fill(~positive, -1e9).logsumexp(1) + push.masked_fill(same, -1e9).logsumexp(1)
    return torch.nn.functional.softplus(v).mean()


def test_a_gradient_that_is_no_derivative_is_shown_by_three_entries_and_a_sentence():
    with pytest.raises(ContractError) as error:
        check_loss(published_circle)
    (line,) = str(error.value).splitlines()
    line = line.partition("finite differences: ")[2].partition(";  ")[0]
    assert re.match(
        r"\d+ of 320 entries differ from differences of the value, most of all row \d+, column",
        line,
    )
    assert line.count(" instead of ") == 3
    assert "the loss is a surrogate: give its class `surrogate`" in line
    assert "tensor(" not in line


class Stated(torch.nn.Module):
    surrogate = "a part is detached"

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, z, y):
        return published_circle(z, y)

    def stated_gradient(self, z, y):
        rows = z.clone().requires_grad_()
        return torch.autograd.grad(published_circle(rows, y), rows)[0] * self.factor


class Unstated(torch.nn.Module):
    surrogate = "a part is detached"

    def forward(self, z, y):
        return pairs(z, y)


def test_a_surrogate_is_compared_with_the_gradient_that_it_states():
    check_loss(Stated())
    with pytest.raises(ContractError, match=r"is the stated one: .* differ from `stated_gradient`"):
        check_loss(Stated(factor=1.1))
    with pytest.raises(ContractError, match="but has no method `stated_gradient"):
        check_loss(Unstated())
