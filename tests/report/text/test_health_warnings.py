"""What is called bad in a study: one record for one finding, by most of its seeds."""

from __future__ import annotations

import pytest

from lossgauge.report.text.health_warnings import HealthWarning, findings_of_run, health_warnings
from lossgauge.report.text.run_findings import run_findings
from lossgauge.results.view import BASELINE, StudyView
from lossgauge.types import Record, Results
from tests.support.made_up_study import make_results


def names_of(columns: Record, *, epochs: Record | None = None, loss: str = "triplet") -> list[str]:
    results = make_results(datasets=("b",))
    for r in results.summaries:
        if r["loss"] == loss:
            r.update(columns)
    for r in results.epochs:
        if r["loss"] == loss:
            r.update(epochs or {})
    return [warning.finding.name for warning in warnings_of(results, loss)]


def warnings_of(results: Results, loss: str) -> list[HealthWarning]:
    return [w for w in health_warnings(StudyView(results)) if w.loss.base == loss]


def test_a_collapsed_space_has_one_warning_and_not_one_for_its_classes_too():
    assert names_of({"test_intra": 1e-5, "test_inter": 2e-5}) == ["collapse"]


@pytest.mark.parametrize(
    ("bad", "good", "name"),
    [
        ({"test_effective_rank": 2.6}, {"test_effective_rank": 5.0}, "few-directions"),
        (
            {"test_intra_inter_ratio": 0.009},
            {"test_intra_inter_ratio": 0.011},
            "neural-collapse",
        ),
        ({"compaction_epochs": 19.0}, {"compaction_epochs": 17.0}, "still-compacting"),  # of 30
        ({"test_offset": 0.92}, {"test_offset": 0.3}, "cone"),
    ],
)
def test_columns_of_a_run_reach_the_rules(bad, good, name):
    assert names_of(bad) == [name]
    assert names_of(good) == []


def test_rows_of_epochs_and_settings_reach_the_rules():
    assert names_of({}, epochs={"skipped_anchor_ratio": 0.06}) == ["no-positives"]
    assert names_of({"setting_margin": 5.0}, epochs={"term_active_ratio": 1.0}) == ["margin"]
    assert names_of({"setting_temperature": 20.0}, loss="info_nce") == ["temperature"]


def test_a_loss_is_judged_by_its_own_batch_size():
    own = {"name": "info_nce", "settings": {"temperature": 0.726, "batch_size": 20}}
    row = {"base": "info_nce(temperature=0.726, batch_size=20)", "setting_temperature": 0.726}
    row["train_class_count"] = 5
    epochs = [{"epoch": n, "loss_value": 1.5 - 0.001 * n} for n in range(1, 30)]
    reference = {}
    for batch_size in (64, 20):
        plan = {"batch_size": 64, "losses": [own] if batch_size == 20 else []}
        found = run_findings(row, epochs, plan=plan, loss="info_nce")
        reference[batch_size] = next(f for f in found if f.name == "loss-floor").reference
    # a perfect space of 5 classes with 4 rows each in a batch has log(1 + 16·e^(−1.25/0.726)) = 1.351
    assert "1.35" in reference[20]
    assert "1.35" not in reference[64]


def test_a_finding_counts_if_more_than_half_of_the_seeds_have_it():
    results = make_results(datasets=("b",))
    of = [r for r in results.summaries if r["loss"] == "triplet"]
    of[0]["test_offset"] = 0.92
    assert warnings_of(results, "triplet") == []
    of[2]["test_offset"] = 0.7
    (warning,) = warnings_of(results, "triplet")
    assert (warning.finding.name, warning.finding.level) == ("cone", "watch")
    assert warning.finding.evidence.endswith("0.70 on average, in 2 of 3 seeds")
    of[1]["test_offset"] = 0.95
    (warning,) = warnings_of(results, "triplet")
    assert (warning.finding.level, warning.words) == (
        "act",
        "all embeddings point in the same direction, so any two are similar",
    )


def test_every_check_of_a_run_is_there_also_of_the_untrained_head():
    view = StudyView(make_results(datasets=("b",)))
    levels = {found.level for found in findings_of_run(view, "b", view.losses[0], 1)}
    assert levels == {"ok"}
    names = {found.name for found in findings_of_run(view, "b", BASELINE, 1)}
    assert names == {"collapse", "cone", "neural-collapse", "few-directions"}


def test_rows_of_classes_reach_the_rules():
    results = make_results(datasets=("b",))
    row = next(r for r in results.summaries if r["loss"] == "triplet")
    numbers = {"size": 40, "intra": 0.1, "margin": 0.4, "nearest": 0, "spacing": 1.1}
    classes = [{**numbers, "side": "test", "label": label} for label in range(10)]
    classes[7] |= {
        "intra": 1e-9,
        "margin": 0.03,
    }  # distance 0.03, and the sampling error of class 0
    found = {
        f.name: f for f in run_findings(row, [], [*classes, {"side": "train"}], plan={}, loss="scl")
    }
    assert (found["class-collapse"].level, found["class-collapse"].subject) == ("act", "class 7")
    assert (found["same-place"].level, found["same-place"].subject) == ("act", "classes 0 and 7")
    assert found["not-separated"].level == "ok"


def test_a_floor_is_noted_only_where_the_decay_was_not_reached_in_any_seed():
    assert names_of({}, loss="scl") == ["loss-floor"]
    assert names_of({"decay_epochs": 20.0}, loss="scl") == []
    assert names_of({"decay_epochs": None}, loss="contrastive") == []


def test_intra_is_still_falling_by_the_epochs_of_the_run():
    assert names_of({"compaction_epochs": 50.0, "epochs": 100}) == []
    assert len(names_of({"compaction_epochs": 70.0, "epochs": 100})) == 1
    assert len(names_of({"compaction_epochs": 7.0, "epochs": 10})) == 1


def test_training_that_helps_is_no_harm():
    results = make_results(datasets=("b",))
    for r in results.summaries:
        r["recall_at_1"] = 0.5 + 0.01 * r["seed"] + 0.2 * (r["loss"] == "scl")
        r["recall_at_1"] += 1e-4 * r["seed"] ** 2 * (r["loss"] == "scl")
    assert not [
        w for w in health_warnings(StudyView(results)) if w.finding.name == "training-harms"
    ]


def test_the_worst_come_first():
    results: Results = make_results(datasets=("b",))
    for r in results.summaries:
        if r["loss"] == "ccl":
            r["test_effective_rank"] = 1.0
        if r["loss"] == "scl":
            r["test_offset"] = 0.7
    levels = [warning.finding.level for warning in health_warnings(StudyView(results))]
    assert levels == ["act", "watch", "ok", "ok"]
