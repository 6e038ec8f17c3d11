import math

import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer

from lossgauge.losses.scl import SCL
from tests.losses.cases import assert_agrees, assert_same_as_peer


def slow(rows, labels, temperature):
    terms = []
    for i in range(len(rows)):
        others = [a for a in range(len(rows)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        total = sum((rows[i] @ rows[a] / temperature).exp() for a in others)
        if positives:
            logs = [((rows[i] @ rows[p] / temperature).exp() / total).log() for p in positives]
            terms.append(-sum(logs) / len(positives))
    return terms


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_value_and_gradient_are_those_of_the_loop(batch, temperature):
    assert_agrees(SCL(temperature=temperature), lambda r, y: slow(r, y, temperature), batch)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(batch, temperature):
    _, labels = batch
    sizes = labels.unique(return_counts=True)[1]
    if (sizes == 1).any():
        pytest.skip("the peer averages anchors without a positive as 0; ours leaves them out")
    peer = SupConLoss(
        temperature,
        distance=DotProductSimilarity(normalize_embeddings=False),
        reducer=MeanReducer(),
    )
    assert_same_as_peer(SCL(temperature=temperature), peer, batch)


def test_the_floor_of_a_collapsed_class_is_the_log_of_its_positives():
    rows = torch.eye(2, dtype=torch.float64).repeat_interleave(5, dim=0)
    value = SCL(temperature=0.01)(rows, torch.arange(2).repeat_interleave(5))
    assert value.item() == pytest.approx(math.log(4))


def test_weight_is_the_probability_given_to_negatives():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
    evaluation = SCL(temperature=1.0).evaluate(rows, torch.tensor([0, 0, 1]))
    share = 1 / (1 + math.exp(0.6)), math.exp(0.8) / (math.exp(0.8) + math.exp(0.6))
    torch.testing.assert_close(evaluation.anchor_weight[:2], torch.tensor(share).double())
    assert evaluation.skipped_anchors == 1


@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_no_batch_of_unit_vectors_is_below_the_floor(batch, temperature):
    loss, (rows, labels) = SCL(temperature=temperature), batch
    unit = torch.nn.functional.normalize(rows)
    assert loss(unit, labels) >= loss.floor(labels)
    sizes = torch.stack([(labels == label).sum() for label in labels])
    assert loss.floor(labels) >= float((sizes[sizes > 1] - 1).double().log().mean())


def test_two_opposite_classes_reach_the_floor():
    rows, labels = torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 4).double(), [0] * 3 + [1] * 4
    loss = SCL(temperature=0.7)
    assert loss(rows, labels).item() == pytest.approx(loss.floor(torch.tensor(labels)))
    assert loss.floor(torch.tensor([0, 1, 2])) == 0
