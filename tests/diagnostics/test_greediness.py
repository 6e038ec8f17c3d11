import math

import pytest
import torch

from lossgauge.diagnostics.greediness import (
    compaction_epochs,
    decay_epochs,
    gradient_active_ratio,
    gradient_norms,
    start_gradient,
    tangent,
)


def test_a_sample_is_active_above_a_share_of_the_start_gradient():
    norms = torch.tensor([0.0, 0.009, 0.011, 1.0])
    assert gradient_active_ratio(norms, start=1.0) == 0.5
    assert gradient_active_ratio(norms, start=1.0, share=0.001) == 0.75
    assert math.isnan(gradient_active_ratio(norms, start=math.nan))


def test_the_start_gradient_is_the_median_of_samples_that_have_one():
    assert start_gradient(torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 3.0])) == 2
    assert math.isnan(start_gradient(torch.zeros(4)))


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([10.0, 5.0, 1.0, 0.5], 2.0),
        ([10.0, 2.0, 0.0], 1.5),  # crosses 1.0 halfway between 2 and 0
        ([10.0, 5.0, 1.1], None),
        ([0.0, 0.0], None),
    ],
)
def test_decay_is_when_a_tenth_of_the_first_loss_is_reached(losses, epochs):
    assert decay_epochs(losses) == epochs


def test_decay_with_a_floor_is_reached_where_the_literal_one_is_not():
    losses = [4.0, 3.0, 2.1, 2.0]
    assert decay_epochs(losses) is None
    assert decay_epochs(losses, floor=2.0) == pytest.approx(1 + 8 / 9)


def test_compaction_is_when_nine_tenths_of_the_fall_are_done():
    assert compaction_epochs([1.0, 0.55, 0.1, 0.0]) == pytest.approx(2)
    assert compaction_epochs([0.2, 0.3, 0.4]) is None


def test_the_tangent_part_is_what_normalisation_lets_through():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(6, 4, dtype=torch.float64, generator=generator).requires_grad_()
    pull = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    unit = torch.nn.functional.normalize(raw)
    (through,) = torch.autograd.grad((unit * pull).sum(), raw)
    expected = tangent(pull, unit.detach()) / raw.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(through, expected)


def test_the_norm_over_parameters_is_that_of_them_all_together():
    parameters = [torch.zeros(2), torch.zeros(3), torch.zeros(1)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0]), torch.tensor([0, 4.0, 0])
    assert math.hypot(*gradient_norms(parameters)) == 5
    assert gradient_norms(parameters[2:]) == []


def test_what_does_not_fall_does_not_compact():
    assert compaction_epochs([0.3, 0.3]) is None
    assert compaction_epochs([0.3, 0.1, 0.3]) is None
    assert compaction_epochs([0.3, math.nan]) is None
    assert compaction_epochs([0.3]) is None


def test_compaction_counts_from_the_start_and_is_done_at_the_first_crossing():
    assert compaction_epochs([1.0, 0.0, 0.5, 0.0]) == pytest.approx(0.9)
    assert compaction_epochs([1.0, 1.2, 0.0]) == pytest.approx(1 + (1.2 - 0.1) / 1.2)
    assert compaction_epochs([1.0, 0.5, 0.0], share=0.5) == 1


def test_a_loss_that_starts_at_its_floor_has_no_decay():
    assert decay_epochs([2.0, 2.0], floor=2.0) is None
    assert decay_epochs([2.0, 1.0], floor=2.5) is None


def test_a_loss_with_negative_values_has_a_decay_only_above_its_lowest_value():
    assert decay_epochs([2.0, 0.1, -3.0]) is None
    assert decay_epochs([-1.0, -2.0]) is None
    assert decay_epochs([2.0, 0.0, -3.0], floor=-3.0) == pytest.approx(1 + 5 / 6)
