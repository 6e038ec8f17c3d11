"""What is tried: the same number for every loss, inside of the ranges, and batches that the data allow."""

import torch

from lossgauge.advice.candidates import (
    Batching,
    all_candidates,
    batchings,
    candidates,
    samples_per_class,
)
from lossgauge.advice.question import Question, base_plan
from lossgauge.losses.registry import LOSSES, settings_of
from lossgauge.plan.loss import TRAINING
from lossgauge.study.schedule.search import space

PLAN = base_plan(Question("digits"), epochs=3)
TRIED = [Batching("random", 32), Batching("m_per_class", 32)]


def labels(classes, rows_of_each):
    return torch.arange(classes).repeat_interleave(rows_of_each)


def test_every_loss_has_equally_many_candidates_and_the_first_seven_are_the_defaults():
    every = all_candidates(PLAN, TRIED, 5)
    assert [sum(one.name == loss for one in every) for loss in LOSSES] == [5] * 7
    for loss, first in zip(LOSSES, every, strict=False):
        assert first.name == loss
        assert not first.fixed  # of the loss itself
        assert (first.learning_rate, first.batch_size, first.sampler) == (0.001, 32, "random")


def test_settings_lie_in_their_ranges_and_the_loss_accepts_them():
    for loss in LOSSES:
        ranges = space(PLAN.losses[LOSSES.index(loss)], PLAN)
        for one in candidates(loss, PLAN, TRIED, 30)[1:]:
            assert {*ranges} == {*one.settings} - {*TRAINING[1:]}
            for key, of in ranges.items():
                assert of.low <= one.settings[key] <= of.high
            for key, value in one.fixed.items():
                check = settings_of(loss)[key].check
                assert check is None or check(key, value) == value


def test_more_candidates_begin_with_those_of_fewer_and_take_batchings_in_turn():
    few, many = (candidates("triplet", PLAN, TRIED, count) for count in (3, 9))
    assert many[:3] == few
    assert [one.sampler for one in many] == ["random", "m_per_class"] * 4 + ["random"]
    assert len({one.title for one in many}) == 9


def test_two_losses_have_different_settings():
    rates = [candidates(loss, PLAN, TRIED, 2)[1].learning_rate for loss in LOSSES]
    assert len(set(rates)) == 7


def test_ten_classes_are_too_few_for_m_per_class_batches_of_64():
    assert batchings(labels(10, 400)) == [Batching("random", 64), Batching("random", 256)]


def test_classes_of_three_rows_get_batches_of_pairs_only():
    """Almost no row of a random batch would have a positive."""
    tried = batchings(labels(2_000, 3))
    assert {one.sampler for one in tried} == {"m_per_class"}
    assert samples_per_class(torch.full((2_000,), 3).numpy()) == 2


def test_a_tiny_dataset_gets_one_batching():
    assert batchings(labels(2, 3)) == [Batching("random", 6)]
    assert batchings(labels(1, 3)) == [Batching("random", 3)]
