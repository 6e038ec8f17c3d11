"""Parts of the training side, and what a doubling gains."""

import math
from types import SimpleNamespace

import pytest
import torch

from lossgauge.advice import phases
from lossgauge.advice.learning_curve import Curve, Point, with_less_training
from lossgauge.advice.phases import curve_from, fitting, too_few
from lossgauge.advice.question import Fit, Question, base_plan
from lossgauge.data.samplers import m_per_class_batches
from lossgauge.errors import DataError
from lossgauge.files import write_json
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.yaml_file import load_plan
from lossgauge.stats.intervals import interval
from lossgauge.types import FeatureSet


def features(labels, train, test):
    labels = torch.as_tensor(labels)
    return FeatureSet(
        dataset="planted",
        backbone="none",
        features=torch.randn(len(labels), 4),
        labels=labels,
        train=torch.as_tensor(train),
        test=torch.as_tensor(test),
        protocol="given",
        fingerprint="0",
        identity={},
    )


def test_shared_classes_lose_rows_and_keep_all_classes():
    whole = features([0, 1, 2] * 20, range(48), range(48, 60))
    half, quarter = (with_less_training(whole, share) for share in (0.5, 0.25))
    counts = half.labels[half.train].unique(return_counts=True)[1].tolist()
    assert counts == [8, 8, 8]
    assert set(quarter.train.tolist()) < set(half.train.tolist()) < set(whole.train.tolist())
    assert torch.equal(half.test, whole.test)


def test_unseen_test_classes_lose_classes_and_keep_their_rows():
    whole = features([c for c in range(12) for _ in range(5)], range(40), range(40, 60))
    half = with_less_training(whole, 0.5)
    assert half.labels[half.train].unique(return_counts=True)[1].tolist() == [5] * 4


def values(*means):
    return [
        {seed: mean + 0.001 * (seed - 1) * (n + 1) for seed in range(3)}
        for n, mean in enumerate(means)
    ]


def test_gains_are_paired_by_seed():
    curve = curve_from(values(0.5, 0.6, 0.65), [25, 50, 100], by_classes=False)
    assert curve is not None
    assert [gain.mean for gain in curve.gains] == pytest.approx([0.1, 0.05])
    # the seeds differ by 0.001 more from size to size
    half_width = 4.302653 * 0.001 / math.sqrt(3)
    assert [gain.half_width for gain in curve.gains] == pytest.approx([half_width] * 2, rel=1e-5)
    # the second doubling gained half of the first: so the next gains half of the second
    assert curve.next_gain == pytest.approx(0.025)


def test_nothing_is_predicted_from_a_gain_that_is_not_clear():
    noisy = interval([0.05, -0.04, 0.02])
    assert noisy is not None
    points = tuple(Point(share, 10, noisy) for share in (0.5, 1.0))
    assert Curve(points, (noisy,), False).next_gain is None
    worse = curve_from(values(0.65, 0.6, 0.5), [25, 50, 100], by_classes=False)
    assert worse is not None
    assert worse.next_gain is None


def test_a_size_without_a_value_has_no_point_and_the_others_stay():
    small, half, whole = values(0.5, 0.6, 0.65)
    curve = curve_from([{}, half, whole], [25, 50, 100], by_classes=False, missing="a quarter: x")
    assert [point.rows for point in curve.points] == [50, 100]
    assert [gain.mean for gain in curve.gains] == pytest.approx([0.05])
    assert curve.missing == "a quarter: x"
    # from a quarter to all are two doublings
    curve = curve_from([small, {}, whole], [25, 50, 100], by_classes=False)
    assert [point.rows for point in curve.points] == [25, 100]
    assert curve.gains == ()
    assert curve.next_gain is None


def test_a_part_that_failed_is_not_done_again(tmp_path, monkeypatch):
    failures = [{"base": "triplet", "error": f"broken {n}"} for n in range(3)]
    results = SimpleNamespace(failures=failures, summaries=[{"base": "untrained"}])
    monkeypatch.setattr(phases, "read_study", lambda folder: SimpleNamespace(results=results))
    loss = LossPlan(name="triplet")
    assert phases._failed(tmp_path, loss) == ""  # nothing was tried
    write_json(tmp_path / "study.json", {})
    assert phases._failed(tmp_path, loss) == "all runs failed: broken 0"
    assert phases._failed(tmp_path, LossPlan(name="scl")) == ""
    results.summaries.append({"base": "triplet"})
    assert phases._failed(tmp_path, loss) == ""


def balanced(classes, rows):
    """So many rows of each class in training, and two in test."""
    count = classes * rows
    return features([*range(classes)] * (rows + 2), range(count), range(count, count + 2 * classes))


@pytest.mark.parametrize(
    ("classes", "rows", "expected"),
    [
        (8, 5, ("m_per_class", 4, 32)),
        (6, 5, ("m_per_class", 4, 24)),  # too few classes for a batch of 32
        (8, 4, ("m_per_class", 2, 16)),  # three rows of each class are trained on
        (8, 2, ("random", 4, 32)),  # one
    ],
)
def test_a_part_is_trained_with_batches_that_it_can_fill(monkeypatch, classes, rows, expected):
    part = balanced(classes, rows)
    rest = part.labels[: (rows - 1) * classes]
    monkeypatch.setattr(phases, "training_labels", lambda features, share: rest)
    plan = base_plan(Question("digits"), epochs=3, fit=Fit())
    loss = LossPlan(name="triplet", settings={"sampler": "m_per_class", "batch_size": 32})
    fitted = fitting(plan, loss, part)
    (own,) = fitted.losses
    assert (own.sampler, fitted.samples_per_class, own.batch_size) == expected
    if own.sampler == "m_per_class":
        sizes = {"batch_size": own.batch_size, "samples_per_class": fitted.samples_per_class}
        assert m_per_class_batches(torch.arange(len(rest)), rest, **sizes, seed=0, epoch=1)
    assert load_plan(fitted.model_dump(mode="json", exclude_unset=True)) == fitted


def test_a_part_without_a_slice_has_one_short_reason():
    whole = balanced(8, 10)
    part = with_less_training(whole, 0.2)
    plan = base_plan(Question("digits"), epochs=3, fit=Fit())
    with pytest.raises(DataError):
        fitting(plan, LossPlan(name="triplet"), part)
    assert too_few(part, whole, by_classes=False) == "too few rows per class (16 of 80 rows)"
    assert too_few(part, whole, by_classes=True) == "too few classes (8 of 8)"
