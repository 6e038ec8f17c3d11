import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lossgauge as lg
from lossgauge.errors import InputError


def unit_rows(count, width=8, seed=0):
    rows = torch.randn(
        count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return F.normalize(rows)


def by_loops(rows, labels, temperature):
    """The loss that counts the other positives as negatives, minus the loss that leaves them out, and the bound, pair by pair."""
    gaps, bounds = [], []
    labels = labels.tolist()
    for i, label in enumerate(labels):
        force = [math.exp(float(rows[i] @ row) / temperature) for row in rows]
        positives = [k for k in range(len(rows)) if labels[k] == label and k != i]
        negatives = [k for k in range(len(rows)) if labels[k] != label]
        with_labels = sum(force[n] for n in negatives)
        for p in positives:
            blind = with_labels + sum(force[k] for k in positives if k != p)
            gaps.append(math.log(blind / force[p]) - math.log(with_labels / force[p]))
            share = (len(positives) - 1) / len(negatives)
            bounds.append(math.log(1 + share * math.exp(2 / temperature)))
    return np.mean(gaps), np.mean(bounds)


@pytest.mark.parametrize("block", [2**21, 30])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_gap_is_the_difference_of_two_losses(monkeypatch, temperature, block):
    monkeypatch.setattr("lossgauge.diagnostics.label_blind_gap.BLOCK_SIMILARITIES", block)
    rows, labels = unit_rows(15), torch.tensor([4, 0, 0, 1, 0, 1, 2, 2, 2, 0, 1, 2, 0, 0, 9])
    of = lg.label_blind_gap(rows, labels, temperature=temperature)
    gap, bound = by_loops(rows, labels, temperature)
    assert of.gap == pytest.approx(gap, rel=1e-12)
    assert (of.pair_count, of.skipped_anchors) == (6 * 5 + 3 * 2 + 4 * 3, 2)
    if temperature < 0.5:
        assert of.bound is None
    else:
        assert of.bound == pytest.approx(bound, rel=1e-12)
        assert 0 < of.gap <= of.bound


def test_the_gap_of_random_rows_falls_as_the_classes_grow_in_number():
    counts = [8, 16, 32, 64, 128]
    gaps = [
        lg.label_blind_gap(unit_rows(10 * c, 64, c), torch.arange(10 * c) % c, temperature=0.5).gap
        for c in counts
    ]
    assert np.polyfit(np.log(counts), np.log(gaps), 1)[0] == pytest.approx(-1.04, abs=0.02)


def test_the_bound_is_reached_and_a_pair_alone_has_no_gap():
    rows = torch.eye(2, dtype=torch.float64)[[0, 0, 0]]
    rows = torch.cat([rows, -rows])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    of = lg.label_blind_gap(rows, labels, temperature=0.5)
    assert of.gap == pytest.approx(of.bound, rel=1e-14)
    assert lg.label_blind_gap(unit_rows(8), torch.arange(8) // 2).gap == 0


def test_a_small_temperature_keeps_its_digits():
    # the pair (0, 1) is e^{1000} times as strong as (0, 2): a difference of sums would lose the rest
    rows = torch.tensor([[1.0, 0], [1, 0], [0.5, 0.75**0.5], [0.25, -(0.9375**0.5)]]).double()
    labels, tau = torch.tensor([0, 0, 0, 1]), 0.0005
    s = rows @ rows.T
    expected = 0.0
    for i in range(3):
        for p in range(3):
            if p != i:
                (k,) = {0, 1, 2} - {i, p}
                expected += max(0.0, float(s[i, k] - s[i, 3]) / tau) / 6
    assert lg.label_blind_gap(rows, labels, temperature=tau).gap == pytest.approx(expected)


def test_rotation_and_order_do_not_matter_and_long_rows_have_no_bound():
    rows, labels = unit_rows(12), torch.arange(12) % 3
    of = lg.label_blind_gap(rows, labels, temperature=1.0)
    turn = torch.linalg.qr(unit_rows(8, seed=1))[0]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    again = lg.label_blind_gap((rows @ turn)[order], -labels[order], temperature=1.0)
    assert again.gap == pytest.approx(of.gap, rel=1e-12)
    assert lg.label_blind_gap(2 * rows, labels, temperature=1.0).bound is None


@pytest.mark.parametrize(
    ("labels", "temperature", "words"),
    [
        ([7, 7, 7], 0.1, "needs negatives, got only label 7"),
        ([1, 2, 3], 0.1, "each of the 3 classes has only one row"),
        ([1, 1, 2], 0.0, "temperature must be positive"),
    ],
)
def test_bad_input_is_one_clear_error(labels, temperature, words):
    with pytest.raises(InputError, match=words):
        lg.label_blind_gap(torch.eye(3), labels, temperature=temperature)


def test_the_gap_is_what_labels_take_from_the_decoupled_loss():
    rows, labels = unit_rows(20), torch.arange(20) % 4
    nscl, dcl = (lg.load_loss(name, temperature=0.3)(rows, labels) for name in ("nscl", "dcl"))
    gap = lg.label_blind_gap(rows, labels, temperature=0.3).gap
    assert float(dcl - nscl) == pytest.approx(gap, rel=1e-12)
