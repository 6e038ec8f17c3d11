"""Class means against loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lossgauge.study.examples.class_means import class_mean_cosines, most_confused, side_by_side


def test_cosines_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    rows, labels = generator.normal(size=(40, 5)), generator.integers(0, 4, 40) * 3
    classes = [9, 0, 6]
    found = class_mean_cosines(rows, labels, classes)
    for i, one in enumerate(classes):
        for j, other in enumerate(classes):
            a = sum(rows[k] for k in range(40) if labels[k] == one)
            b = sum(rows[k] for k in range(40) if labels[k] == other)
            cosine = a @ b / np.sqrt((a @ a) * (b @ b))
            assert found[i, j] == pytest.approx(cosine, abs=1e-12)


def test_a_mean_of_zero_has_no_cosine():
    rows = np.array([[1.0, 0], [-1.0, 0], [0, 1.0]])
    found = class_mean_cosines(rows, np.array([0, 0, 1]), [0, 1])
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1


@pytest.mark.parametrize("most", [1, 3, 6])
def test_the_most_confused_classes_are_those_of_a_counter(most):
    generator = np.random.default_rng(most)
    labels = np.array([40, 7, 3, 12, 99, 5])
    pairs = generator.choice(labels, (60, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    counts = Counter(pairs.ravel().tolist())
    expected = sorted(labels.tolist(), key=lambda label: (-counts[label], label))[:most]
    assert most_confused(labels, pairs[:, 0], pairs[:, 1], most=most) == sorted(expected)


def test_without_a_miss_the_smallest_labels_stay():
    nothing = np.empty(0, dtype=np.int64)
    assert most_confused(np.array([5, 2, 9]), nothing, nothing, most=2) == [2, 5]


def test_two_planted_groups_are_side_by_side():
    groups = np.array([0, 1, 0, 1, 1, 0])
    cosines = np.where(groups[:, None] == groups, 0.9, -0.2)
    np.fill_diagonal(cosines, 1)
    cosines[0, 3] = cosines[3, 0] = np.nan
    order = side_by_side([cosines, cosines])
    assert sorted(order) == list(range(6))
    assert (np.diff(groups[order]) != 0).sum() == 1


def test_two_classes_keep_their_order():
    assert side_by_side([np.eye(2)]) == [0, 1]
