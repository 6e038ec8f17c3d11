import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import lossgauge as lg
from lossgauge.errors import InputError
from tests.losses.test_swap import batch


def gradients(*names, per_pair=False, rows=None, **batch_of):
    given, labels = batch(**batch_of)
    rows = given if rows is None else rows
    return {
        name: lg.pair_gradient(lg.load_loss(name).double(), rows, labels, per_pair=per_pair)
        for name in names
    }


def test_the_table_equals_loops_over_rows():
    of = gradients("info_nce", "scl", "siglip")
    table = lg.weights_and_directions(of)
    assert [(pair.first, pair.second) for pair in table] == [
        ("info_nce", "scl"),
        ("info_nce", "siglip"),
        ("scl", "siglip"),
    ]
    for pair in table:
        a, b = (of[name].gradient.numpy() for name in (pair.first, pair.second))
        cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
        assert pair.direction == pytest.approx(np.mean(cosines), rel=1e-12)
        strengths = [
            np.abs(x).sum(axis=1) / 2 / of[name].terms.numpy()
            for x, name in ((a, pair.first), (b, pair.second))
        ]
        assert pair.weight == pytest.approx(spearmanr(*strengths).statistic, rel=1e-12)
        assert (pair.head, pair.row_count) == (None, 12)


def test_info_nce_and_nscl_have_one_direction_per_pair_but_not_per_anchor():
    (one_positive,) = lg.weights_and_directions(gradients("info_nce", "nscl", per_class=2))
    (per_pair,) = lg.weights_and_directions(
        gradients("info_nce", "nscl", per_class=6, per_pair=True)
    )
    (per_anchor,) = lg.weights_and_directions(gradients("info_nce", "nscl", classes=8, per_class=6))
    assert one_positive.direction == pytest.approx(1, abs=1e-12)
    assert per_pair.direction == pytest.approx(1, abs=1e-12)
    assert 0.9 < per_anchor.direction < 0.999
    assert math.isnan(per_pair.weight)  # nscl has W = 1/τ everywhere


def test_distances_and_dot_products_point_the_same_way():
    (pair,) = lg.weights_and_directions(gradients("triplet", "info_nce"))
    assert pair.direction > 0.5


def test_gradients_at_the_head_are_compared_if_they_are_given():
    of = gradients("info_nce", "scl")
    at_head = {"info_nce": torch.tensor([[1.0, 2.0]]), "scl": torch.tensor([[2.0, -1.0]])}
    (pair,) = lg.weights_and_directions(of, at_head=at_head)
    assert pair.head == pytest.approx(0, abs=1e-15)
    (pair,) = lg.weights_and_directions(of, at_head=dict.fromkeys(of, torch.ones(3)))
    assert pair.head == pytest.approx(1)


def test_order_of_rows_does_not_matter_and_a_silent_loss_has_no_direction():
    rows, labels = batch()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    losses = {name: lg.load_loss(name) for name in ("info_nce", "scl")}
    one, other = (
        lg.weights_and_directions(
            {
                name: lg.pair_gradient(loss, rows[some], labels[some])
                for name, loss in losses.items()
            }
        )[0]
        for some in (torch.arange(12), order)
    )
    assert other.direction == pytest.approx(one.direction, rel=1e-12)
    assert other.weight == pytest.approx(one.weight, rel=1e-12)
    corners = torch.eye(12, dtype=torch.float64)[labels]
    (silent,) = lg.weights_and_directions(gradients("triplet", "scl", rows=corners))
    assert silent.row_count == 0
    assert math.isnan(silent.direction)
    assert math.isnan(silent.weight)


def test_bad_input_is_one_clear_error():
    of = gradients("info_nce", "scl")
    with pytest.raises(InputError, match=r"need at least two, got \['scl'\]"):
        lg.weights_and_directions({"scl": of["scl"]})
    with pytest.raises(InputError, match=r"of one batch, .*'nscl' has 36 other rows .* with 12"):
        lg.weights_and_directions(of | gradients("nscl", per_class=4, classes=3, per_pair=True))
    with pytest.raises(
        InputError, match="at_head must have a gradient for each loss, info_nce, scl"
    ):
        lg.weights_and_directions(of, at_head={"scl": torch.ones(2)})
