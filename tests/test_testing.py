import pytest
import torch

from lossgauge.losses.registry import ALL_LOSSES, load_loss
from lossgauge.losses.triplet import Triplet
from lossgauge.testing import ContractError, check_loss

# mnrl is info_nce with another scale, matryoshka is mnrl at several widths, and gist masks what mnrl takes
SLOW = ("mnrl", "matryoshka", "gist")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in ALL_LOSSES]
)
def test_each_of_our_losses_keeps_the_contract(name):
    torch.manual_seed(0)
    sizes = {"class_count": 4, "embedding_size": 16} if name in ("arcface", "ccl") else {}
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
