import pytest
import torch
from pytorch_metric_learning.losses import SmoothAPLoss

from lossgauge.losses.pairs import pair_masks
from lossgauge.losses.smooth_ap import LIVE, SmoothAP
from tests.losses.cases import assert_agrees, make_batch
from tests.losses.test_pairs import assert_pairs_agree, make_pairs


def slow(q, d, positive, negative, temperature, itself=None):
    """`itself` is a mask of entries that count as positives, but make no query valid."""
    terms = []
    for i in range(len(q)):
        scores = [q[i] @ row for row in d]
        right = [
            j for j in range(len(d)) if positive[i, j] or (itself is not None and itself[i, j])
        ]
        wrong = [j for j in range(len(d)) if negative[i, j]]
        if not positive[i].any():
            continue
        shares = []
        for p in right:
            above = {
                j: ((s - scores[p]) / temperature).sigmoid() for j, s in enumerate(scores) if j != p
            }
            rank_of_positives = 1 + sum(above[j] for j in right if j != p)
            shares.append(
                rank_of_positives / (1 + sum(above[j] for j in [*right, *wrong] if j != p))
            )
        terms.append(1 - sum(shares) / len(shares))
    return terms


@pytest.mark.parametrize(("temperature", "include_self"), [(0.1, False), (0.1, True), (1.0, False)])
def test_value_and_gradient_are_those_of_the_loop(batch, temperature, include_self):
    itself = torch.eye(len(batch[1]), dtype=torch.bool) if include_self else None
    loss = SmoothAP(temperature=temperature, include_self=include_self)
    assert_agrees(loss, lambda r, y: slow(r, r, *pair_masks(y), temperature, itself=itself), batch)


def test_over_queries_and_documents_it_is_the_loop():
    slow_pairs = lambda *pairs: slow(*pairs, 0.1)  # noqa: E731
    assert_pairs_agree(SmoothAP(temperature=0.1), slow_pairs, make_pairs())


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_with_the_query_itself_it_is_pytorch_metric_learning_where_that_is_right(temperature):
    """On four classes of four: the peer mixes up the two numbers elsewhere. It adds in float32."""
    loss = SmoothAP(temperature=temperature, include_self=True)
    peer = SmoothAPLoss(temperature=temperature)
    rows, _ = make_batch([0] * 16)
    labels = torch.arange(4).repeat_interleave(4)
    results = []
    for function in (lambda z, y: loss(torch.nn.functional.normalize(z), y), peer):
        leaf = rows.clone().requires_grad_()
        value = function(leaf, labels)
        results.append((value.detach().double(), torch.autograd.grad(value, leaf)[0]))
    (value, gradient), (peer_value, peer_gradient) = results
    torch.testing.assert_close(value, peer_value, rtol=0, atol=1e-7)
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-6, atol=1e-6)


def test_weight_is_the_share_of_live_pairs_among_those_that_are_not_satisfied():
    # similarities of query 0: a positive at 0.5; negatives that are satisfied, live, live, and hopeless at τ = 0.01
    scores = torch.tensor([1.0, 0.5, 0.5 - 0.011 * LIVE, 0.49, 0.5 + 0.009 * LIVE, 0.99])
    rows = torch.stack((scores, (1 - scores.square()).clamp(min=0).sqrt()), dim=1).double()
    found = SmoothAP().evaluate(rows, torch.tensor([0, 0, 1, 2, 3, 4]))
    assert found.anchor_weight[0].item() == pytest.approx(2 / 3)
    assert found.skipped_anchors == 4
    perfect = torch.eye(4)[[0, 0, 1, 1]]
    found = SmoothAP(temperature=0.02).evaluate(perfect, torch.tensor([0, 0, 1, 1]))
    assert found.anchor_weight.tolist() == [0.0] * 4
    # not 1 − 1: two negatives at σ(−50), and a rank of 1
    assert found.value.item() == pytest.approx(2 * 1.9287498e-22, rel=1e-5, abs=0)
