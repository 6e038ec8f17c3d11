import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lossgauge.diagnostics.thresholds import (
    _row_weights,
    best_threshold,
    per_class_gain,
    threshold_difference,
    thresholds,
)
from lossgauge.errors import InputError
from lossgauge.stats.intervals import t_quantile


def make(*, classes=12, size=6, noise=1.0, seed=0, digits=None):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, 8, dtype=torch.float64, generator=generator)
    labels = torch.arange(classes).repeat_interleave(size)
    rows = centers[labels] + noise * torch.randn(
        len(labels), 8, dtype=torch.float64, generator=generator
    )
    similarity = normalize(rows) @ normalize(rows).T
    return similarity if digits is None else similarity.round(decimals=digits), labels


def pairs_of(similarity, labels):
    genuine, impostor = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        (genuine if labels[i] == labels[j] else impostor).append(float(similarity[i, j]))
    return np.array(genuine), np.array(impostor)


@pytest.mark.parametrize("digits", [None, 1])
def test_thresholds_equal_a_loop_over_scores(digits):
    similarity, labels = make(digits=digits)
    of = thresholds(similarity, labels, resamples=2)
    genuine, impostor = pairs_of(similarity, labels)
    assert (of.genuine_count, of.impostor_count) == (len(genuine), len(impostor))
    scores = sorted({*genuine, *impostor}, reverse=True)
    rates = [(np.mean(genuine >= t), np.mean(impostor >= t)) for t in scores]
    for point in of.at_far:
        allowed = [n for n, (_, far) in enumerate(rates) if far <= point.far]
        if allowed:
            assert point.threshold == scores[max(allowed)]
            assert point.tpr.mean == pytest.approx(rates[max(allowed)][0])
        else:
            assert (point.threshold, point.tpr.mean) == (math.inf, 0)
    best = max(range(len(scores)), key=lambda n: (rates[n][0] - rates[n][1], scores[n]))
    assert of.best_threshold == scores[best]
    assert of.best_accuracy.mean == pytest.approx((rates[best][0] + 1 - rates[best][1]) / 2)
    assert of.eer.mean == pytest.approx(slow_eer(genuine, impostor), abs=1e-12)


def slow_eer(genuine, impostor):
    """On the line between the two scores around the crossing of FAR and 1 − TPR."""
    scores = sorted({*genuine, *impostor}, reverse=True)
    rates = [(0.0, 0.0)] + [(np.mean(genuine >= t), np.mean(impostor >= t)) for t in scores]
    before, after = next(
        (a, b) for a, b in itertools.pairwise(rates) if a[1] < 1 - a[0] and b[1] >= 1 - b[0]
    )
    one, two = before[1] - (1 - before[0]), after[1] - (1 - after[0])
    return before[1] + (after[1] - before[1]) * -one / (two - one)


@pytest.mark.parametrize("classes", [10, 3])
def test_the_interval_is_that_of_sets_that_are_drawn_again(classes):
    """A class that is drawn twice is two classes with the same rows; where classes are few, rows are drawn inside them."""
    similarity, labels = make(classes=classes, size=4, noise=1.5)
    of = thresholds(similarity, labels, resamples=6)
    drawn = []
    for weight in _row_weights(labels.numpy(), 6, 0):
        genuine, impostor = [], []
        for i, j in itertools.combinations(range(len(labels)), 2):
            both = int(weight[i] * weight[j])
            if labels[i] == labels[j]:
                genuine += [float(similarity[i, j])] * (both if classes < 10 else int(weight[i]))
            else:
                impostor += [float(similarity[i, j])] * both
        drawn.append(slow_eer(np.array(genuine), np.array(impostor)))
    assert of.eer.half_width / t_quantile(of.eer.degrees) == pytest.approx(np.std(drawn, ddof=1))


def test_rates_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    similarity, labels = make(noise=1.5)
    first, second = np.triu_indices(len(labels), 1)
    same = (labels[first] == labels[second]).numpy()
    far, tpr, _ = metrics.roc_curve(
        same, similarity.numpy()[first, second], drop_intermediate=False
    )
    of = thresholds(similarity, labels, resamples=2)
    for point in of.at_far:
        assert point.tpr.mean == pytest.approx(tpr[far <= point.far].max())
    assert of.best_accuracy.mean == pytest.approx(0.5 + (tpr - far).max() / 2)
    assert abs(of.eer.mean - far[np.argmin(np.abs(far - 1 + tpr))]) < 0.01


def test_a_separated_space_has_no_error_and_a_constant_one_is_chance():
    similarity, labels = make(noise=0.0)
    of = thresholds(similarity, labels)
    assert (of.eer.mean, of.best_accuracy.mean) == (0, 1)
    assert [point.tpr.mean for point in of.at_far] == [1, 1]
    assert of.eer.half_width is None
    flat = thresholds(torch.ones_like(similarity), labels)
    assert flat.eer.mean == 0.5
    assert [point.threshold for point in flat.at_far] == [math.inf, math.inf]
    assert (
        flat.at_far[0].tpr.missing
        == "2,376 of 2,376 pairs of two classes have the highest similarity"
    )


@pytest.mark.parametrize(("classes", "over"), [(12, "new classes"), (4, "new rows of the same")])
def test_the_interval_says_what_it_is_over(classes, over):
    similarity, labels = make(classes=classes)
    of = thresholds(similarity, labels)
    assert of.eer.over.startswith(over)
    assert 0 < of.eer.half_width < 0.2
    assert thresholds(similarity, labels) == of
    assert thresholds(similarity, labels, seed=1).eer.half_width != of.eer.half_width


def covers(classes, resamples, repeats):
    """Share of sets of new classes whose interval of the EER contains that of very many classes."""
    truth = thresholds(*make(classes=250, noise=1.3, seed=10_000), resamples=2).eer.mean
    inside = 0
    for seed in range(repeats):
        of = thresholds(*make(classes=classes, noise=1.3, seed=seed), resamples=resamples).eer
        inside += of.low <= truth <= of.high
    return inside / repeats


@pytest.mark.slow
def test_intervals_over_new_classes_contain_the_truth_95_percent_of_the_time():
    assert 0.92 <= covers(25, 100, 300) <= 0.99


def test_more_rows_and_classes_narrow_the_interval():
    few, many = (thresholds(*make(classes=c, size=4)).eer.half_width for c in (12, 60))
    assert many < few / 1.5


def test_a_difference_is_paired_and_has_a_smaller_interval_than_its_sides():
    before, labels = make(noise=1.4)
    after = make(noise=1.2)[0]
    of = threshold_difference(before, after, labels)
    one, two = (thresholds(side, labels) for side in (before, after))
    assert of.eer.mean == pytest.approx(two.eer.mean - one.eer.mean)
    assert of.best_accuracy.mean == pytest.approx(two.best_accuracy.mean - one.best_accuracy.mean)
    assert of.tpr[0.01].mean == pytest.approx(two.at_far[0].tpr.mean - one.at_far[0].tpr.mean)
    assert of.eer.half_width < math.hypot(one.eer.half_width, two.eer.half_width)
    same = threshold_difference(before, before, labels)
    assert (same.eer.mean, same.eer.half_width) == (0, None)


def test_thresholds_of_classes_help_where_classes_differ_and_not_elsewhere():
    # tight classes in a cone, and wide ones around: one threshold cannot fit both
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16).repeat_interleave(16)
    tight = (labels % 2 == 0)[:, None]
    center = torch.randn(16, 12, dtype=torch.float64, generator=generator)
    noise = torch.randn(256, 12, dtype=torch.float64, generator=generator)
    cone = 3 * torch.eye(12, dtype=torch.float64)[0]
    rows = torch.where(
        tight, cone + 0.4 * center[labels] + 0.05 * noise, center[labels] + noise / 2
    )
    helped = per_class_gain(normalize(rows) @ normalize(rows).T, labels)
    assert helped.low > 0.02
    alike = per_class_gain(*make(classes=30, size=12, noise=1.0))
    assert abs(alike.mean) < 0.03


def test_the_gain_is_measured_on_rows_that_did_not_choose():
    """Labels at random: each class fits its own noise, and gains nothing."""
    similarity = make(classes=30, size=15)[0]
    labels = torch.randint(0, 30, (450,), generator=torch.Generator().manual_seed(3))
    gain = per_class_gain(similarity, labels)
    assert abs(gain.mean) < 0.03


def test_classes_of_few_rows_say_nothing_about_thresholds_of_their_own():
    assert per_class_gain(*make(classes=3, size=9)) is None
    assert per_class_gain(*make(classes=3, size=10)) is not None


def test_the_best_threshold_is_in_the_gap_below_its_score():
    genuine, impostor = torch.tensor([0.9, 0.8]), torch.tensor([0.2, 0.1])
    assert best_threshold(genuine.double(), impostor.double()) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("labels", "words"), [([0, 0, 0], "two classes"), ([0, 1, 2], "two rows of one class")]
)
def test_pairs_of_one_kind_have_no_threshold(labels, words):
    with pytest.raises(InputError, match=words):
        thresholds(torch.eye(3), torch.tensor(labels))
