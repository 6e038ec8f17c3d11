import pytest
import torch
from pytorch_metric_learning.losses import CircleLoss
from pytorch_metric_learning.reducers import MeanReducer

from lossgauge.losses.circle import Circle
from lossgauge.testing import check_loss
from tests.losses.cases import BATCHES, assert_agrees, assert_same_as_peer, make_batch


def slow(rows, labels, margin, scale):
    """The paper's weights α are numbers: `item` stops their gradient."""
    terms = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        positives = [rows[i] @ rows[p] for p in others if labels[p] == labels[i]]
        negatives = [rows[i] @ rows[n] for n in others if labels[n] != labels[i]]
        if positives and negatives:
            pull = [-scale * max(0, 1 + margin - s.item()) * (s - 1 + margin) for s in positives]
            push = [scale * max(0, s.item() + margin) * (s - margin) for s in negatives]
            v = torch.stack(push).logsumexp(0) + torch.stack(pull).logsumexp(0)
            terms.append(torch.logaddexp(v, v.new_zeros(())))
    return terms


@pytest.mark.parametrize(("margin", "scale"), [(0.4, 80.0), (0.25, 256.0), (0.0, 2.0)])
def test_value_and_gradient_are_those_of_the_loop(batch, margin, scale):
    assert_agrees(Circle(margin=margin, scale=scale), lambda r, y: slow(r, y, margin, scale), batch)


@pytest.mark.parametrize("name", ["balanced", "unbalanced", "two classes"])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(name):
    """On batches where each sample has a positive and a negative: the peer divides by all samples."""
    loss = Circle()
    ours = lambda z, y: loss(torch.nn.functional.normalize(z), y)  # noqa: E731
    peer = CircleLoss(reducer=MeanReducer())
    assert_same_as_peer(ours, peer, make_batch(BATCHES[name], unit=False))


def test_mean_weight_is_sigmoid_of_v():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
    found = Circle(margin=0.4, scale=2.0).evaluate(rows, torch.tensor([0, 0, 1]))
    v = torch.tensor(2.0 * 0.4 * -0.4 + 2.0 * 0.8 * 0.0, dtype=torch.float64)
    torch.testing.assert_close(found.anchor_weight[0], v.sigmoid())
    assert found.anchor_weight[2].isnan()
    assert (found.term_count, found.skipped_anchors) == (2, 1)


@pytest.mark.parametrize("reduction", ["mean", "active"])
def test_the_stated_gradient_is_the_gradient(batch, reduction):
    embeddings, labels = batch
    loss = Circle(reduction=reduction, scale=4.0)
    rows = embeddings.clone().requires_grad_()
    loss(rows, labels).backward()
    torch.testing.assert_close(rows.grad, loss.stated_gradient(embeddings, labels))


def test_the_gradient_is_no_derivative_of_the_value():
    rows, labels = make_batch([0, 0, 1, 1, 2])
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(
            lambda z: Circle(scale=4.0)(z, labels), rows.clone().requires_grad_()
        )


def test_it_keeps_the_contract_of_a_surrogate():
    check_loss(Circle())
