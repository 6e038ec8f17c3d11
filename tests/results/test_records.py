import math
from pathlib import Path

import pyarrow as pa
import pytest

from lossgauge.errors import CacheError
from lossgauge.results.records import (
    Dataset,
    Failure,
    Study,
    Summary,
    Timing,
    check_columns,
    check_epochs,
    checked,
    too_large,
)
from tests.support.studies import small_plan

RUN = {
    "run": "digits_triplet_0_0123456789ab",
    "dataset": "digits",
    "loss": "triplet",
    "base": "triplet",
    "variant": "default",
    "seed": 0,
    "epochs_planned": 2,
}
STUDY = {
    "format": 3,
    "plan": small_plan().model_dump(mode="json"),
    "assumptions": {"head": "one layer"},
    "runs": [
        RUN,
        {**RUN, "variant": "trial", "trial": 0},
        {**RUN, "variant": "sensitivity", "setting": "margin", "factor": 2},
    ],
    "expected": 3,
    "tuned": [],
    "left_out": [{"dataset": "cub200", "reason": "it is not there", "waits": True}],
    "environment": {"torch": "2", "threads": 1},
}
SUMMARY = {
    "epochs": 2,
    "selected_epoch": 2,
    "settings": "margin=0.2",
    "protocol": "halves",
    "fingerprint": "f",
    "recall_at_1": 0.5,
    "map_at_r": 0,
    "decay_epochs": None,
    "setting_reduction": "mean",
}
DATASET = {
    "dataset": "digits",
    "fingerprint": "f",
    "references": [
        {"dataset": "digits", "reference": "full collapse", "intra": 0.0, "inter": None}
    ],
}


@pytest.mark.parametrize(
    ("model", "record"),
    [
        *((Study, STUDY), (Summary, SUMMARY), (Dataset, DATASET), (Failure, {"error": "e"})),
        *((Timing, {}), (Timing, {"seconds": 1})),
        (Study, {**STUDY, "plan": {**STUDY["plan"], "learning_rate": 1e300, "a new key": [1]}}),
    ],
)
def test_what_a_study_writes_is_of_its_model_and_stays_as_it_is(model, record):
    assert checked(Path("x"), model, record) is record


def run(**changes):
    return {**STUDY, "runs": [{**RUN, **changes}]}


@pytest.mark.parametrize(
    ("model", "record", "words"),
    [
        (Study, {**STUDY, "runs": {}}, r"runs must be a list, got \{\}"),
        (Study, run(seed="0"), r"runs\.0\.seed must be a whole number, got '0'"),
        (Study, run(seed=True), r"runs\.0\.seed must be a whole number, got True"),
        (Study, run(seed=2**70), r"runs\.0\.seed must be below 9,007,199,254,740,992, got 1180"),
        (Study, run(run="../../secret"), r"runs\.0\.run: .*cannot be a file name"),
        (Study, run(run=""), r"runs\.0\.run"),
        (Study, run(run="x" * 300), r"runs\.0\.run"),
        (Study, run(dataset="a/b"), r"runs\.0\.dataset"),
        (
            Study,
            run(variant="other"),
            r"runs\.0\.variant must be 'default', .* or 'trial', got 'other'",
        ),
        (Study, run(variant="trial"), "a trial has a number"),
        (Study, run(trial=1), "no other run has one"),
        (Study, run(factor=2.0), "a sensitivity run has a setting and a factor"),
        (Study, run(map_at_r=0.9), "unknown column 'map_at_r'"),
        (Study, {**STUDY, "assumptions": {"head": 1}}, r"assumptions\.head must be text, got 1"),
        (
            Study,
            {**STUDY, "environment": {"a": []}},
            r"environment\.a must be text, a number, true or false, got \[\]",
        ),
        (Study, {**STUDY, "plan": {**STUDY["plan"], "selection_metric": "x"}}, "selection_metric"),
        (
            Study,
            {**STUDY, "left_out": [{"dataset": "x", "reason": "y", "z": {}}]},
            r"left_out\.0\.z must be text, a number",
        ),
        (
            Summary,
            {**SUMMARY, "decay_epochs": "soon"},
            "decay_epochs is 'soon', which is not a valid measur",
        ),
        (Summary, {**SUMMARY, "test_intra": True}, "test_intra is True"),
        (Summary, {**SUMMARY, "test_intra": 1e101}, "test_intra is 1e"),
        (Summary, {**SUMMARY, "setting_x": []}, "setting_x"),
        (
            Summary,
            {k: v for k, v in SUMMARY.items() if k != "map_at_r"},
            "map_at_r is missing",
        ),
        (Timing, {"map_at_r": 0.9}, "map_at_r is not a known key"),
        (Dataset, {**DATASET, "dataset": "faces"}, "references belong to another dataset"),
        (Dataset, {**DATASET, "references": [{"dataset": "digits"}]}, r"references\.0\.reference"),
        (Failure, {"error": ["e"]}, r"error must be text, got \['e'\]"),
    ],
)
def test_what_no_study_writes_is_damage(model, record, words):
    with pytest.raises(CacheError, match=rf"^x is damaged \(.*{words}"):
        checked(Path("x"), model, record)


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("epochs", {"map_at_r": [0.5]}, "it has no column 'epoch'"),
        ("epochs", {"epoch": [0.0]}, "its column 'epoch' has the type double"),
        (
            "steps",
            {"step": [0], "epoch": [1], "pull": ["x"]},
            "its column 'pull' has the type string",
        ),
        ("classes", {"label": [0], "intra": [0.1]}, "it has no column 'side'"),
        ("classes", {"label": [0], "side": [1]}, "its column 'side' has the type int64"),
    ],
)
def test_columns_of_a_table_have_the_types_that_a_run_gives_them(name, columns, words):
    with pytest.raises(CacheError, match=words):
        check_columns(Path("x"), name, pa.table(columns).schema)


def test_a_run_without_a_step_has_no_columns_of_steps():
    check_columns(Path("x"), "steps", pa.table({}).schema)
    check_columns(
        Path("x"), "classes", pa.table({"side": ["test"], "label": [1], "intra": [None]}).schema
    )


def test_epochs_are_counted_from_0_to_the_last():
    rows = [{"epoch": epoch, "loss_value": math.nan} for epoch in range(3)]
    check_epochs(Path("x"), rows, 2)
    for wrong, count in ((rows, 3), (rows[1:], 2), (rows[::-1], 2), ([*rows, rows[2]], 2), ([], 0)):
        with pytest.raises(CacheError, match=f"are not the epochs 0 to {count}"):
            check_epochs(Path("x"), wrong, count)
    with pytest.raises(
        CacheError, match=r"loss_value is 1e\+101, which is not a valid measurement"
    ):
        check_epochs(Path("x"), [*rows[:2], {"epoch": 2, "loss_value": 1e101}], 2)


def test_only_finite_numbers_are_too_large():
    assert too_large({"a": 1e100, "b": -math.inf, "c": math.nan, "d": None, "e": "x"}) is None
    assert too_large({"a": 1, "b": -1e101}) == "b"
