"""The map against other ways to compute it, and what it must keep."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from lossgauge.study.examples.embedding_map import class_balanced, embedding_map, turned_to_fit


def unit_rows(*shape: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=shape) * np.linspace(3, 1, shape[-1])
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_the_plane_is_that_of_scikit_learn_over_all_epochs_together():
    spaces = unit_rows(3, 50, 6)
    found = embedding_map(spaces)
    expected = PCA(2, svd_solver="full").fit(spaces.reshape(-1, 6))
    flat = expected.transform(spaces.reshape(-1, 6)).reshape(3, 50, 2)
    signs = np.sign((flat * found.positions).sum(axis=(0, 1)))
    np.testing.assert_allclose(found.positions, flat * signs, atol=1e-10)
    for epoch in range(3):
        share = flat[epoch].var(axis=0).sum() / spaces[epoch].var(axis=0).sum()
        assert found.shares[epoch] == pytest.approx(share, rel=1e-10)


def test_a_distance_in_the_map_is_at_most_the_true_one():
    spaces = unit_rows(2, 20, 5, seed=1)
    positions = embedding_map(spaces).positions
    for epoch in range(2):
        for one in range(20):
            for other in range(one):
                drawn = np.linalg.norm(positions[epoch, one] - positions[epoch, other])
                assert drawn <= np.linalg.norm(spaces[epoch, one] - spaces[epoch, other]) + 1e-12


def test_the_signs_do_not_depend_on_the_order_of_the_rows():
    spaces = unit_rows(1, 30, 4, seed=2)
    order = np.random.default_rng(0).permutation(30)
    again = embedding_map(spaces[:, order]).positions
    np.testing.assert_allclose(again, embedding_map(spaces).positions[:, order], atol=1e-12)


def test_one_column_and_equal_rows_have_an_answer():
    line = embedding_map(np.array([[[1.0], [-1.0], [1.0]]]))
    np.testing.assert_allclose(np.abs(line.positions[0]), [[2 / 3, 0], [4 / 3, 0], [2 / 3, 0]])
    assert line.shares == [pytest.approx(1.0)]
    point = embedding_map(np.ones((2, 4, 3)))
    assert np.abs(point.positions).max() < 1e-12
    assert point.shares == [None, None]


def test_a_turned_map_fits_best_and_keeps_its_distances():
    positions = embedding_map(unit_rows(2, 25, 5, seed=3)).positions
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mirror = turn @ np.diag([1.0, -1.0])
    np.testing.assert_allclose(
        turned_to_fit(positions @ mirror, positions[-1]), positions, atol=1e-12
    )
    other = np.random.default_rng(1).normal(size=(25, 2))
    centered = positions[-1] - positions[-1].mean(axis=0)
    expected, _ = orthogonal_procrustes(centered, other - other.mean(axis=0))
    np.testing.assert_allclose(turned_to_fit(positions, other), positions @ expected, atol=1e-12)


@pytest.mark.parametrize("most", [1, 7, 50, 600])
def test_rows_of_the_map_are_balanced_over_the_classes(most):
    labels = np.repeat([3, 8, 8, 8, 1, 1, 5], [2, 9, 11, 10, 3, 30, 1])
    np.random.default_rng(0).shuffle(labels)
    places = class_balanced(labels, most=most)
    assert len(places) == len(set(places)) == min(most, len(labels))
    assert places == sorted(places)
    counts, sizes = Counter(labels[places].tolist()), Counter(labels.tolist())
    if most >= len(sizes):
        # a class has fewer than another by more than one only if it has no more rows
        largest = max(counts.values())
        assert all(counts[of] >= min(size, largest - 1) for of, size in sizes.items())


def test_of_more_classes_than_rows_some_at_even_distances_have_one():
    labels = np.arange(100) // 2
    assert labels[class_balanced(labels, most=5)].tolist() == [0, 10, 20, 30, 40]
