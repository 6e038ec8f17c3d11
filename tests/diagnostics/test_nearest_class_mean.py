import math
import random

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

import lossgauge as lg
from lossgauge.errors import InputError
from tests.diagnostics.test_directional_cdnv import made


def by_loops(rows, labels, means_of, queries):
    """Class-averaged accuracy of `queries`, with the means of the rows `means_of`."""
    names = sorted(set(labels.tolist()))
    means = {c: np.mean([rows[i] for i in means_of if labels[i] == c], axis=0) for c in names}
    right = {c: [] for c in names}
    for i in queries:
        distances = {c: math.dist(rows[i], mean) for c, mean in means.items()}
        right[labels[i]].append(min(distances, key=distances.__getitem__) == labels[i])
    return [float(np.mean(right[c])) for c in names]


def test_accuracy_equals_loops_and_scikit_learn():
    rows, labels = made([12, 5, 30, 9], spread=1.2)
    of = lg.nearest_class_mean(rows, labels, shots=())
    everyone = range(len(rows))
    expected = by_loops(rows, labels, everyone, everyone)
    assert of.per_class.tolist() == expected
    assert of.accuracy == pytest.approx(np.mean(expected), abs=1e-15)
    assert 0 < of.error < 1
    assert of.row_accuracy == pytest.approx(NearestCentroid().fit(rows, labels).score(rows, labels))


def test_m_shot_accuracy_is_the_mean_over_all_choices():
    rows, labels = made([3, 4], width=2, spread=1.5, seed=1)
    first, second = np.flatnonzero(labels == 3), np.flatnonzero(labels == 10)
    exact = [
        np.mean(by_loops(rows, labels, (i, j), [k for k in range(7) if k not in (i, j)]))
        for i in first
        for j in second
    ]
    of = lg.nearest_class_mean(rows, labels, shots=(1,), draws=1500).shots[1]
    assert of.deviation == pytest.approx(np.std(exact), rel=0.1)
    assert of.accuracy == pytest.approx(np.mean(exact), abs=4 * np.std(exact) / 1500**0.5)
    one = lg.nearest_class_mean(rows, labels, shots=(2,), draws=1)
    assert one.shots[2].deviation == 0


def test_more_shots_help_and_chance_is_one_over_classes():
    rows, labels = made([60] * 5, width=16, spread=2.0)
    curve = lg.nearest_class_mean(rows, labels, draws=10).shots
    assert list(curve) == [1, 5, 10, 20]
    accuracies = [shot.accuracy for shot in curve.values()]
    assert accuracies == sorted(accuracies)
    noise = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    by_chance = lg.nearest_class_mean(noise, torch.arange(400) % 4, shots=(10,), draws=20)
    assert by_chance.shots[10].accuracy == pytest.approx(0.25, abs=0.02)


def test_rotation_scale_and_seed():
    rows, labels = made([9, 9, 9], spread=1.5)
    of = lg.nearest_class_mean(rows, labels, draws=5)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    again = lg.nearest_class_mean(1e9 * rows @ turn, labels, draws=5)
    assert (again.accuracy, again.shots) == (of.accuracy, of.shots)
    assert again.error_bound == pytest.approx(of.error_bound)
    assert lg.nearest_class_mean(rows, labels, draws=5, seed=1).shots != of.shots
    order = random.Random(0).sample(range(27), 27)
    assert lg.nearest_class_mean(rows[order], labels[order], shots=()).accuracy == of.accuracy


def test_equal_means_go_to_the_smaller_label():
    rows = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
    of = lg.nearest_class_mean(rows, np.array([5, 5, 2, 2]), shots=())
    assert of.per_class.tolist() == [1, 0]
    assert (of.error, of.error_bound) == (0.5, 1)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"shots": (1, 4)}, "4 shots need 5 rows of each class, 4 for the mean .* class 10 has 4"),
        ({"shots": (0,)}, "at least 1, got 0"),
        ({"draws": 0}, "draws must be"),
    ],
)
def test_shots_that_cannot_be_measured_are_refused(keywords, words):
    rows, labels = made([6, 4])
    with pytest.raises(InputError, match=words):
        lg.nearest_class_mean(rows, labels, **keywords)
    assert list(lg.nearest_class_mean(rows, labels, draws=2).shots) == [1]
