"""Which loss is best, and what cannot be told, on planted finalists."""

import math

import pytest

from lossgauge.advice.verdict import epochs_to_near, training, verdict
from lossgauge.results.view import StudyView
from tests.support.planted_finals import DATASET, finals

CLEAR = {
    "triplet": [0.70, 0.71, 0.705],
    "scl": [0.60, 0.612, 0.604],
    "ccl": [0.50, 0.51, 0.507],
}
CLOSE = {
    "triplet": [0.70, 0.66, 0.68],
    "scl": [0.66, 0.70, 0.67],
    "ccl": [0.50, 0.51, 0.507],
}


def names(losses):
    return [loss.name for loss in losses]


def test_the_best_loss_is_clear_if_all_differences_are():
    found = verdict(finals(CLEAR), DATASET, "ranking")
    assert names(found.losses) == ["triplet", "scl", "ccl"]
    assert found.is_clear
    assert found.ties == ()
    difference = found.differences[found.losses[1]]
    values = [a - b for a, b in zip(CLEAR["triplet"], CLEAR["scl"], strict=True)]
    assert difference.mean == pytest.approx(sum(values) / 3)


def test_a_loss_whose_interval_overlaps_is_a_tie():
    found = verdict(finals(CLOSE), DATASET, "ranking")
    assert found.best.name == "triplet"
    assert not found.is_clear
    assert names(found.ties) == ["scl"]


def test_one_seed_tells_nothing_about_losses():
    found = verdict(
        finals({loss: values[:1] for loss, values in CLEAR.items()}), DATASET, "ranking"
    )
    assert found.best.name == "triplet"
    assert not found.is_clear
    assert names(found.ties) == ["scl", "ccl"]
    assert found.seeds_needed is None


def test_one_loss_is_never_clear():
    found = verdict(finals({"triplet": CLEAR["triplet"]}), DATASET, "ranking")
    assert (names(found.losses), found.is_clear) == (["triplet"], False)


def test_top1_is_judged_by_its_own_column():
    assert verdict(finals(CLEAR), DATASET, "top1").levels
    mean = verdict(finals(CLEAR), DATASET, "top1").levels
    assert next(iter(mean.values())).mean == pytest.approx(0.8051, abs=1e-6)


EQUIVALENT = {
    "triplet": [0.7000, 0.7100, 0.7050],
    "scl": [0.6995, 0.7096, 0.7044],
    "ccl": [0.50, 0.51, 0.507],
}
INTRA = {"triplet": 0.1, "scl": 0.3, "ccl": 0.9}


def test_diversity_takes_the_most_intra_of_those_that_rank_equally_well():
    found = verdict(finals(EQUIVALENT, intra=INTRA), DATASET, "diversity")
    assert names(found.losses) == ["scl", "triplet"]  # ccl keeps more, but ranks worse


def test_diversity_does_not_take_a_loss_that_is_only_not_clearly_worse():
    found = verdict(finals(CLOSE, intra=INTRA), DATASET, "diversity")
    assert names(found.losses) == ["triplet"]


CURVES = {
    # 95 % of the best final value, 0.7 + 0.0001 on average, is 0.6651
    "triplet": [0.3, 0.5, 0.6, 0.7],
    "scl": [0.3, 0.68, 0.69, 0.69],
    "ccl": [0.3, 0.5, 0.5, 0.5],
}


def test_speed_takes_the_loss_that_is_first_near_the_best_final_value():
    found = verdict(finals(CLEAR, curves=CURVES), DATASET, "speed")
    assert names(found.losses) == [
        "scl",
        "triplet",
    ]  # ccl never gets there, however early it stops rising
    target = 0.95 * 0.7001
    expected = [(target - (0.3 + 0.0001 * s)) / 0.38 for s in range(3)]
    assert found.levels[found.best].mean == pytest.approx(sum(expected) / 3)
    assert found.is_clear


def slow_epochs(values, target):
    """Ten thousand steps an epoch along the line through the values."""
    for step in range(10_000 * (len(values) - 1) + 1):
        epoch = step / 10_000
        low = min(int(epoch), len(values) - 2)
        if values[low] + (epoch - low) * (values[low + 1] - values[low]) >= target:
            return epoch
    return None


@pytest.mark.parametrize("target", [0.1, 0.42, 0.6, 0.65, 0.9])
def test_epochs_to_a_value_are_those_of_a_slow_walk(target):
    values = [0.3, 0.5, 0.45, 0.7]
    rows = [{"epoch": epoch, "map_at_r": value} for epoch, value in enumerate(values)]
    expected = slow_epochs(values, target)
    assert epochs_to_near(rows[::-1], "map_at_r", target) == (
        None if expected is None else pytest.approx(expected, abs=2e-4)
    )
    assert epochs_to_near([{"epoch": 0, "map_at_r": None}], "map_at_r", target) is None


@pytest.mark.parametrize(("frozen", "expected"), [(0.5, "train"), (0.9, "keep"), (0.7052, "open")])
def test_training_is_compared_with_the_frozen_features(frozen, expected):
    view = finals(CLEAR, frozen=frozen)
    found = training(view, DATASET, verdict(view, DATASET, "ranking").best, "map_at_r")
    assert found.train == expected
    assert found.difference.mean == pytest.approx(0.7051 - frozen)
    assert math.isfinite(found.difference.half_width)


def test_a_view_without_a_finished_run_has_no_verdict():
    view = finals({"triplet": [math.nan]})
    assert verdict(view, DATASET, "ranking") is None
    assert verdict(view, DATASET, "diversity") is None
    assert verdict(view, DATASET, "speed") is None


def test_speed_is_compared_over_the_seeds_that_most_losses_have():
    view = finals(CLEAR, curves=CURVES)
    kept = [row for row in view.results.summaries if row["base"] == "triplet" or not row["seed"]]
    epochs = [row for row in view.results.epochs if row["base"] == "triplet" or not row["seed"]]
    found = verdict(
        StudyView(view.results._replace(summaries=kept, epochs=epochs)), DATASET, "speed"
    )
    assert [level.size for level in found.levels.values()] == [1, 1]


def test_a_seed_that_only_one_loss_has_finished_does_not_count():
    """As after a stop: the best loss was done with seeds that the others had not begun."""
    view = finals(CLEAR)
    late = [row for row in view.results.summaries if row["base"] in ("scl", "ccl") and row["seed"]]
    for row in late:
        view.results.summaries.remove(row)
    view = StudyView(view.results._replace(waiting=late))
    found = verdict(view, DATASET, "ranking")
    assert [level.size for level in found.levels.values()] == [1, 1, 1]
    assert found.levels[found.best].mean == CLEAR["triplet"][0]
    assert found.differences[found.losses[1]].mean == pytest.approx(0.1)
