import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lossgauge as lg
from lossgauge.errors import InputError


def made(sizes, width=5, *, spread=1.0, seed=0):
    """Rows of classes with these sizes, in a mixed order; labels 3, 10, 17 …"""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = generator.normal(size=(len(sizes), width))[labels]
    rows = rows + spread * generator.normal(size=rows.shape)
    order = generator.permutation(len(labels))
    return rows[order], 7 * labels[order] + 3


def by_loops(rows, labels):
    """d_ij for each ordered pair, one row at a time."""
    means = {label: rows[labels == label].mean(axis=0) for label in sorted(set(labels))}
    d = {}
    for i, mean in means.items():
        for j, other in means.items():
            if i != j:
                gap = np.linalg.norm(other - mean)
                along = [((x - mean) @ (other - mean) / gap) ** 2 for x in rows[labels == i]]
                d[i, j] = float(np.mean(along)) / gap**2
    return d


@pytest.mark.parametrize("block", [2**21, 7])
def test_directional_cdnv_equals_loops_over_rows(monkeypatch, block):
    monkeypatch.setattr("lossgauge.diagnostics.directional_cdnv.BLOCK_PROJECTIONS", block)
    rows, labels = made([4, 9, 2, 6], spread=0.3)
    d = by_loops(rows, labels)
    of = lg.directional_cdnv(rows, labels)
    assert of.mean == pytest.approx(np.mean(list(d.values())), rel=1e-12)
    assert of.bound == pytest.approx(sum(4 * x / (1 + 4 * x) for x in d.values()) / 4, rel=1e-12)
    assert of.worst_pair == max(d, key=d.__getitem__)
    assert of.worst == pytest.approx(max(d.values()), rel=1e-12)
    assert of.label.tolist() == [3, 10, 17, 24]
    for label, mean in zip(of.label.tolist(), of.per_class.tolist(), strict=True):
        assert mean == pytest.approx(np.mean([x for (i, _), x in d.items() if i == label]))


def test_it_is_at_most_the_part_of_cdnv_and_equal_on_a_line():
    for width in (1, 8):
        rows, labels = made([20] * 4, width)
        geometry = lg.geometry(rows, labels)
        d = lg.directional_cdnv(rows, labels).mean
        # CDNV halves the sum of two classes: over ordered pairs, the mean of intra_i/‖Δ‖²
        assert d <= geometry.cdnv * (1 + 1e-12)
        assert (d == pytest.approx(geometry.cdnv, rel=1e-12)) == (width == 1)


def test_isotropic_noise_leaves_one_direction_of_the_width():
    generator, width = np.random.default_rng(0), 16
    labels = np.repeat(np.arange(5), 4000)
    rows = 4 * np.eye(width)[labels] + generator.normal(size=(len(labels), width))
    # intra_i/‖Δ‖² = 16/32, over the width
    assert lg.directional_cdnv(rows, labels).mean == pytest.approx(1 / 32, rel=0.02)


def test_rotation_shift_scale_order_and_names_do_not_matter():
    rows, labels = made([5, 3, 8])
    of = lg.directional_cdnv(rows, labels)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    order = np.random.default_rng(4).permutation(len(rows))
    for other, names in (
        (rows @ turn, labels),
        (rows + 100, labels),
        (rows * 1e200, labels),
        (rows * 1e-200, labels),
        (rows[order], labels[order]),
        (rows, -labels),
    ):
        again = lg.directional_cdnv(other, names)
        assert again.mean == pytest.approx(of.mean, rel=1e-9)
        assert again.bound == pytest.approx(of.bound, rel=1e-9)


def test_equal_means_are_infinite_and_count_one_in_the_bound():
    rows = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2], [9, 0], [9, 0]])
    of = lg.directional_cdnv(rows, np.array([0, 0, 1, 1, 2, 2]))
    assert of.mean == of.worst == math.inf
    assert of.worst_pair == (0, 1)
    assert of.bound == pytest.approx(
        (2 + 4 / 85) / 3
    )  # d_02 = 1/81; of class 1, nothing along the line
    assert of.per_class_bound.tolist() == [1, 1, 0]
    collapsed = lg.directional_cdnv(np.full((6, 3), 0.1), np.arange(6) % 2)
    assert (collapsed.mean, collapsed.bound) == (math.inf, 1)


def test_a_class_of_one_row_has_no_variance_but_a_mean():
    rows, labels = made([1, 4, 4])
    of, d = lg.directional_cdnv(rows, labels), by_loops(rows, labels)
    assert math.isnan(of.per_class[0])
    assert of.mean == pytest.approx(np.mean([x for (i, _), x in d.items() if i != 3]))


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (torch.ones(3, 2), [4, 4, 4], "two are needed, got only label 4"),
        (torch.ones(3, 2), [1, 2, 3], "each of the 3 classes has only one sample"),
        (torch.full((2, 2), torch.nan), [0, 0], "finite"),
        (torch.ones(2, 2), [0.0, math.nan], "1 of 2 are missing"),
    ],
)
def test_bad_input_is_one_clear_error(rows, labels, words):
    for measure in (lg.directional_cdnv, lg.nearest_class_mean):
        with pytest.raises(InputError, match=words):
            measure(rows, torch.tensor(labels))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5).filter(lambda sizes: max(sizes) > 1),
    width=st.integers(1, 4),
    spread=st.sampled_from([0.01, 0.2, 1.0, 5.0]),
    seed=st.integers(0, 10**6),
    whole=st.booleans(),
)
def test_the_bound_is_never_below_the_error(sizes, width, spread, seed, whole):
    rows, labels = made(sizes, width, spread=spread, seed=seed)
    if whole:  # equal rows, equal means, ties
        rows = rows.round()
    of = lg.nearest_class_mean(rows, labels, shots=())
    assert 0 <= of.error <= of.error_bound + 1e-12


def test_the_bound_is_reached():
    # one row in five of class 0 is as near to the other mean, which has the smaller label, as to its own
    rows = np.array([[0.0], [0], [0], [0], [5], [9], [9], [9]])
    labels = np.array([0, 0, 0, 0, 0, -1, -1, -1])
    of = lg.nearest_class_mean(rows, labels, shots=())
    assert by_loops(rows, labels)[0, -1] == 4 / 64
    assert of.error == pytest.approx(0.1, rel=1e-15)
    assert of.error_bound == pytest.approx(0.1, rel=1e-15)
