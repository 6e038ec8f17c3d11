import math

import numpy as np
import pytest
import torch

import lossgauge as lg
from lossgauge.types import PairGradient
from tests.diagnostics.test_label_blind_gap import unit_rows


def of_weights(weights, negative=None):
    weights = torch.as_tensor(weights, dtype=torch.float64)
    negative = torch.ones_like(weights, dtype=torch.bool) if negative is None else negative
    count = torch.ones(len(weights), dtype=torch.int64)
    return PairGradient(weights, count, count.cumsum(0) - 1, ~negative, negative, False)


def test_equal_weights_give_all_and_a_single_weight_gives_one():
    of = lg.effective_negatives(of_weights([[0.3] * 7, [0, 0, 0, 5, 0, 0, 0], [1e-200] * 7]))
    assert of.per_row.tolist() == pytest.approx([7, 1, 7], rel=1e-14)
    assert of.share == pytest.approx(5 / 7)
    assert (of.mean, of.negatives, of.silent_anchors) == (5, 7, 0)


def test_it_equals_a_loop_over_the_negatives_of_a_loss():
    rows = unit_rows(24, 5)
    labels = torch.arange(24) % 4
    loss = lg.load_loss("info_nce", temperature=0.2)
    gradient = lg.pair_gradient(loss, rows, labels)
    expected = []
    for i in range(24):
        weights = [abs(float(gradient.gradient[i, n])) for n in range(24) if labels[n] != labels[i]]
        expected.append(sum(weights) ** 2 / sum(w * w for w in weights))
    of = lg.effective_negatives(gradient)
    assert of.per_row.tolist() == pytest.approx(expected, rel=1e-12)
    assert of.low == pytest.approx(np.quantile(expected, 0.1))
    assert of.negatives == 18
    assert 1 <= of.low <= of.mean <= 18


def test_a_high_temperature_uses_all_negatives_and_a_low_one_few():
    rows = unit_rows(40, 8)
    labels = torch.arange(40) % 5
    high, low = (
        lg.effective_negatives(
            lg.pair_gradient(lg.load_loss("nscl", temperature=tau), rows, labels)
        ).share
        for tau in (1000.0, 0.0005)
    )
    assert high == pytest.approx(1, abs=1e-5)
    assert low < 0.05


def test_anchors_without_a_push_are_counted_and_in_no_mean():
    negative = torch.tensor([[True, True], [False, False], [True, True]])
    of = lg.effective_negatives(of_weights([[1, 1], [1, 1], [0, 0]], negative))
    assert (of.silent_anchors, of.mean) == (2, 2)
    assert math.isnan(of.per_row[1])
    nothing = lg.effective_negatives(of_weights([[0.0, 0.0]]))
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.low)
