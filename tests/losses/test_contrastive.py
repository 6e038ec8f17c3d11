import pytest
import torch

from lossgauge.losses.contrastive import Contrastive
from tests.losses.cases import assert_agrees


def slow(rows, labels, margin):
    terms = []
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i != j:
                squared = (rows[i] - rows[j]).square().sum()
                if labels[i] == labels[j]:
                    terms.append(squared)
                else:
                    terms.append((margin - squared.sqrt()).clamp(min=0).square())
    return terms


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.6])
def test_value_and_gradient_are_those_of_the_loop(batch, margin):
    assert_agrees(Contrastive(margin=margin), lambda r, y: slow(r, y, margin), batch)


def test_anchor_weight_is_the_force_as_a_share_of_the_strongest():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
    evaluation = Contrastive(margin=1.0).evaluate(rows, torch.tensor([0, 0, 1]))
    near, far = 0.8**0.5, 0.4**0.5  # distances of the third row to the first and the second
    torch.testing.assert_close(
        evaluation.anchor_weight,
        torch.tensor(
            [(2**0.5 / 2 + 1 - near) / 2, (2**0.5 / 2 + 1 - far) / 2, (2 - near - far) / 2]
        ).double(),
    )


def test_a_negative_at_distance_zero_is_not_pushed():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    value = Contrastive()(rows, torch.tensor([0, 1]))
    value.backward()
    assert value.item() == 1.0
    assert rows.grad.abs().max() == 0
