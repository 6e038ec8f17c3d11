"""What is called bad: each threshold from both sides, and one warning for one fault."""

from __future__ import annotations

import pytest

from lossgauge.report.text.health_warnings import HealthWarning, health_warnings
from lossgauge.results.view import StudyView
from lossgauge.types import Record, Results
from tests.support.made_up_study import make_results


def words_of(columns: Record, *, epochs: Record | None = None, loss: str = "triplet") -> list[str]:
    results = make_results(datasets=("b",))
    for r in results.summaries:
        if r["loss"] == loss:
            r.update(columns)
    for r in results.epochs:
        if r["loss"] == loss:
            r.update(epochs or {})
    return [warning.words for warning in warnings_of(results, loss)]


def warnings_of(results: Results, loss: str) -> list[HealthWarning]:
    return [w for w in health_warnings(StudyView(results)) if w.loss.base == loss]


def test_a_collapsed_space_has_one_warning_and_not_one_for_its_classes_too():
    one = {"test_intra": 1e-5, "test_inter": 2e-5, "test_smallest_class_intra": 1e-12}
    assert words_of(one) == ["the space has collapsed to one point"]


@pytest.mark.parametrize(
    ("bad", "good", "words"),
    [
        ({"test_effective_rank": 1.9}, {"test_effective_rank": 2.1}, "little more than one"),
        (
            {"test_intra": 0.009, "test_inter": 1.0},
            {"test_intra": 0.011, "test_inter": 1.0},
            "has shrunk to one point",
        ),
        ({"skipped_anchor_ratio": 0.06}, {"skipped_anchor_ratio": 0.04}, "no positive"),
        ({"compaction_epochs": 19.0}, {"compaction_epochs": 17.0}, "still falling"),  # of 30
        ({"test_offset": 0.92}, {"test_offset": 0.88}, "point in the same direction"),
    ],
)
def test_a_warning_is_on_one_side_of_its_threshold(bad, good, words):
    assert [text for text in words_of(bad) if words in text]
    assert words_of(good) == []


def test_the_active_ratio_of_the_last_epoch_is_compared_with_the_first():
    def of(start: float, end: float) -> bool:
        results = make_results(datasets=("b",))
        for r in results.epochs:
            if r["loss"] == "triplet" and r["epoch"]:
                r["gradient_active_ratio"] = {1: start, 30: end}.get(r["epoch"], 0.5)
        return any(
            "almost no effect" in warning.words for warning in warnings_of(results, "triplet")
        )

    assert of(1.0, 0.04)
    assert not of(1.0, 0.06)
    assert not of(0.2, 0.04)
    assert of(0.2, 0.009)


def test_a_floor_is_noted_only_where_the_decay_was_not_reached_in_any_seed():
    assert len(words_of({}, loss="scl")) == 1
    assert words_of({"decay_epochs": 20.0}, loss="scl") == []
    assert words_of({"decay_epochs": None}, loss="contrastive") == []


def test_intra_is_still_falling_by_the_epochs_of_the_run():
    assert words_of({"compaction_epochs": 50.0, "epochs": 100}) == []
    assert len(words_of({"compaction_epochs": 70.0, "epochs": 100})) == 1
    assert len(words_of({"compaction_epochs": 7.0, "epochs": 10})) == 1


def test_skipped_anchors_are_judged_by_the_mean_over_training_where_it_is_known():
    high, low = {"skipped_anchor_ratio": 0.3}, {"skipped_anchor_ratio": 0.01}
    assert words_of(low, epochs=high) == []
    assert len(words_of(high, epochs=low)) == 1
    assert len(words_of({"skipped_anchor_ratio": None}, epochs=high)) == 1


def test_training_that_helps_is_no_harm():
    results = make_results(datasets=("b",))
    for r in results.summaries:
        r["recall_at_1"] = 0.5 + 0.01 * r["seed"] + 0.2 * (r["loss"] == "scl")
        r["recall_at_1"] += 1e-4 * r["seed"] ** 2 * (r["loss"] == "scl")
    assert not [
        w for w in health_warnings(StudyView(results)) if "makes retrieval worse" in w.words
    ]


def test_bad_warnings_come_first():
    results: Results = make_results(datasets=("b",))
    for r in results.summaries:
        if r["loss"] == "ccl":
            r["test_effective_rank"] = 1.0
    severities = [warning.severity for warning in health_warnings(StudyView(results))]
    assert severities == sorted(severities)
    assert set(severities) == {"bad", "note"}
