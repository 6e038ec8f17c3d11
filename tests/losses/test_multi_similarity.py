import pytest
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.reducers import MeanReducer

from lossgauge.losses.multi_similarity import MultiSimilarity
from tests.losses.cases import BATCHES, assert_agrees, assert_same_as_peer, make_batch


def slow(rows, labels, alpha, beta, base):
    terms = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        positives = [rows[i] @ rows[p] for p in others if labels[p] == labels[i]]
        negatives = [rows[i] @ rows[n] for n in others if labels[n] != labels[i]]
        if positives and negatives:
            pull = sum((-alpha * (s - base)).exp() for s in positives)
            push = sum((beta * (s - base)).exp() for s in negatives)
            terms.append((1 + pull).log() / alpha + (1 + push).log() / beta)
    return terms


@pytest.mark.parametrize(
    ("alpha", "beta", "base"), [(2.0, 50.0, 0.5), (18.0, 75.0, 0.77), (1.0, 2.0, 0.0)]
)
def test_value_and_gradient_are_those_of_the_loop(batch, alpha, beta, base):
    loss = MultiSimilarity(alpha=alpha, beta=beta, base=base)
    assert_agrees(loss, lambda r, y: slow(r, y, alpha, beta, base), batch)


@pytest.mark.parametrize("name", ["balanced", "unbalanced", "two classes"])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(name):
    """On batches where each sample has a positive and a negative: the peer divides by all samples."""
    loss = MultiSimilarity()
    ours = lambda z, y: loss(torch.nn.functional.normalize(z), y)  # noqa: E731
    peer = MultiSimilarityLoss(reducer=MeanReducer())
    assert_same_as_peer(ours, peer, make_batch(BATCHES[name], unit=False))


def test_mean_weight_is_the_mean_of_the_forces_of_both_sides():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
    found = MultiSimilarity(alpha=2.0, beta=4.0, base=0.5).evaluate(rows, torch.tensor([0, 0, 1]))
    pull, push = torch.tensor([-0.2, -2.0], dtype=torch.float64).exp()
    wanted = (pull / (1 + pull) + push / (1 + push)) / 2
    torch.testing.assert_close(found.anchor_weight[0], wanted)
    assert found.anchor_weight[2].isnan()
    assert (found.term_count, found.skipped_anchors) == (2, 1)


def test_a_sum_of_tiny_forces_is_not_rounded_to_nothing():
    """log(1 + e^{−60}) is 0 where 1 is added first; the two terms of the value are of the same size here."""
    rows = torch.eye(4)[[0, 0, 1]]
    found = MultiSimilarity(alpha=100.0, beta=100.0, base=0.6).evaluate(
        rows, torch.tensor([0, 0, 1])
    )
    wanted = (torch.tensor([-40.0, -60.0]).exp() / 100).sum()
    assert found.value.item() == pytest.approx(wanted.item(), rel=1e-5, abs=0)
