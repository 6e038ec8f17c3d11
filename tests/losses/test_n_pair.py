import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import NPairsLoss

from lossgauge.losses.n_pair import NPair
from tests.losses.cases import assert_agrees, assert_same_as_peer, make_batch


def slow(rows, labels, temperature, norm_weight):
    pairs = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        if len(members) > 1:
            pairs.append((rows[members[0]], rows[members[1]]))
    terms = []
    for c, (anchor, partner) in enumerate(pairs):
        rest = sum(
            ((anchor @ other - anchor @ partner) / temperature).exp()
            for k, (_, other) in enumerate(pairs)
            if k != c
        )
        norms = anchor.square().sum() + partner.square().sum()
        terms.append(torch.log(1 + torch.as_tensor(rest)) + norm_weight / 4 * norms)
    return terms


@pytest.mark.parametrize(("temperature", "norm_weight"), [(1.0, 0.0), (0.2, 0.02)])
def test_value_and_gradient_are_those_of_the_loop(batch, temperature, norm_weight):
    loss = NPair(temperature=temperature, norm_weight=norm_weight)
    assert_agrees(loss, lambda r, y: slow(r, y, temperature, norm_weight), batch)


def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch):
    peer = NPairsLoss(distance=DotProductSimilarity(normalize_embeddings=False))
    assert_same_as_peer(NPair(), peer, batch)


def test_classes_of_one_sample_are_left_out_and_counted():
    embeddings, _ = make_batch([0] * 7)
    evaluation = NPair().evaluate(embeddings, torch.tensor([5, 5, 1, 2, 2, 2, 9]))
    assert evaluation.term_count == 2
    assert evaluation.skipped_anchors == 2
    assert evaluation.anchor_value.isfinite().tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.2}, {"norm_weight": 0.1}])
def test_no_batch_of_unit_vectors_is_below_the_floor_and_a_simplex_reaches_it(batch, settings):
    loss, (rows, labels) = NPair(**settings), batch
    assert loss(torch.nn.functional.normalize(rows), labels) >= loss.floor(labels)
    for classes in (1, 2, 5):
        simplex = torch.eye(classes, dtype=torch.float64)
        if classes > 1:
            simplex = torch.nn.functional.normalize(simplex - 1 / classes)
        labels = torch.arange(classes).repeat(2)
        value = loss(simplex.repeat(2, 1), labels).item()
        assert value == pytest.approx(loss.floor(labels))
    assert loss.floor(torch.arange(3)) == 0
