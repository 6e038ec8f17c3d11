import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import NTXentLoss

from lossgauge.losses.info_nce import InfoNCE
from tests.losses.cases import assert_agrees, assert_same_as_peer, make_batch


def slow(rows, labels, temperature):
    terms = []
    for i in range(len(rows)):
        for p in range(len(rows)):
            if i != p and labels[i] == labels[p]:
                own = (rows[i] @ rows[p] / temperature).exp()
                rest = sum(
                    (rows[i] @ rows[n] / temperature).exp()
                    for n in range(len(rows))
                    if labels[n] != labels[i]
                )
                terms.append(-(own / (own + rest)).log())
    return terms


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_value_and_gradient_are_those_of_the_loop(batch, temperature):
    assert_agrees(InfoNCE(temperature=temperature), lambda r, y: slow(r, y, temperature), batch)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch, temperature):
    peer = NTXentLoss(temperature, distance=DotProductSimilarity(normalize_embeddings=False))
    assert_same_as_peer(InfoNCE(temperature=temperature), peer, batch)


def test_the_gradient_lives_at_a_temperature_where_a_capped_logarithm_is_flat():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    value = InfoNCE(temperature=0.0002)(rows, torch.tensor([0, 0, 1]))
    value.backward()
    # anchor 0: log(1 + e^{(1 − 0)/τ}) = 5000; anchor 1: log(1 + e^0) = log 2
    assert value.item() == pytest.approx((5000 + 0.6931472) / 2)
    assert rows.grad[0].norm() > 1000


def test_mean_weight_is_sigmoid_of_v():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
    evaluation = InfoNCE(temperature=1.0).evaluate(rows, torch.tensor([0, 0, 1]))
    v = torch.tensor([0.0 - 0.6, 0.8 - 0.6], dtype=torch.float64)
    torch.testing.assert_close(evaluation.anchor_weight[:2], v.sigmoid())
    assert evaluation.anchor_weight[2].isnan()
    assert evaluation.skipped_anchors == 1


def test_with_equal_class_counts_it_is_sincere():
    """SINCERE (Feeney and Hughes 2023): −log of the positive among itself and the negatives, a mean for each anchor, then over anchors."""
    embeddings, labels = make_batch([0, 1, 2, 3] * 5)
    of_anchors = []
    for i in range(len(labels)):
        s = embeddings @ embeddings[i] / 0.1
        same = labels == labels[i]
        same[i] = False
        negatives = s[labels != labels[i]].exp().sum()
        of_anchors.append(-(s[same].exp() / (s[same].exp() + negatives)).log().mean())
    value = InfoNCE(temperature=0.1)(embeddings, labels)
    torch.testing.assert_close(value, torch.stack(of_anchors).mean())
