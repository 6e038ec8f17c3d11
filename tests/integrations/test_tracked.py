import math

import pytest

from lossgauge.integrations.tracked import flat, metric_name, numbers, track, tracked_id

ROW = {
    "run": "digits_triplet_0_41e63db09b60",
    "dataset": "digits",
    "loss": "triplet",
    "base": "triplet",
    "variant": "default",
    "seed": 0,
}


def test_zero_is_a_number_and_what_is_not_known_is_left_out():
    row = {"a": 0.0, "b": None, "c": math.nan, "d": math.inf, "e": "words", "f": True, "g": 3}
    assert numbers(row) == {"a": 0.0, "g": 3}


def test_nested_settings_are_joined_by_dots():
    config = {"loss": "triplet", "settings": {"margin": 0.2, "more": {"x": None, "y": [1]}}}
    assert flat(config) == {
        "loss": "triplet",
        "settings.margin": 0.2,
        "settings.more.y": "[1]",
    }


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("test_intra", "variance/test_intra"),
        ("train_cdnv", "variance/train_cdnv"),
        ("recall_at_1", "retrieval/recall_at_1"),
        ("validation_map_at_r", "retrieval/validation_map_at_r"),
        ("head_gradient", "greediness/head_gradient"),
        ("loss_value", "greediness/loss_value"),
    ],
)
def test_columns_stand_under_their_group(column, name):
    assert metric_name(column) == name


def test_a_run_that_serves_twice_has_two_ids():
    rows = [
        ROW,
        {**ROW, "variant": "tuned"},
        {**ROW, "variant": "sensitivity", "setting": "margin", "factor": 2.0},
        {**ROW, "variant": "sensitivity", "setting": "margin", "factor": 4.0},
        {**ROW, "variant": "sensitivity", "setting": "scale", "factor": 2.0},
    ]
    ids = [tracked_id(row) for row in rows]
    assert ids[0] == ROW["run"]
    assert len(set(ids)) == len(ids)
    assert ids == [tracked_id(dict(row)) for row in rows]


def test_names_of_a_run_are_no_measurements():
    run = track(
        {**ROW, "epochs": 1, "test_intra": 0.5},
        timing={**ROW, "seconds": 2.0},
        config={},
        epochs=[{**ROW, "epoch": 0, "test_intra": 0.25}],
    )
    assert run.epochs == [(0, {"variance/test_intra": 0.25})]
    assert run.summary == {
        "summary/epochs": 1,
        "summary/test_intra": 0.5,
        "timing/seconds": 2.0,
    }
    assert run.tags["lossgauge.run"] == ROW["run"]
    assert run.tags["seed"] == "0"
