"""Cross-batch memory as a factor of a study."""

import pytest

import lossgauge as lg
from lossgauge.errors import PlanError
from lossgauge.files import read_rows
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.results.writer import Store
from lossgauge.study.prepare import prepare
from lossgauge.study.run.execute import execute
from lossgauge.study.run.setup import set_up
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.runs import plan_runs
from tests.support.studies import SMALL, Quiet, vectors_plan, write_vectors

WITH = "losses=[scl, {scl: {memory: 64}}]"


def prepared(plan):
    return prepare(plan, progress=Quiet())[0]


def runs_by_title(plan):
    (features,) = prepared(plan)
    return features, {run.title: run for run in plan_runs(plan, features)}


def test_a_memory_of_0_is_the_run_without_the_key_and_another_one_is_another_run(tmp_path):
    path = write_vectors(tmp_path / "v.npz")
    names = {}
    for changes in ("losses=scl", "losses=[{scl: {memory: 0}}]", WITH):
        _, runs = runs_by_title(vectors_plan(path, changes))
        names[changes] = [run.name for run in runs.values()]
    plain, zero, both = names.values()
    assert plain == zero == both[:2]
    assert both[2] not in plain
    _, runs = runs_by_title(vectors_plan(path, WITH, "memory=32"))
    memories = [run.config.memory for run in runs.values()]
    assert memories == [None, 32, 64]  # the untrained head has none, a loss may have its own
    assert "memory" not in runs["untrained"].config.as_json()


def executed(run, features, folder, on_epoch=lambda epoch: None):
    store = Store(folder)
    with store.exclusive_lock():
        summary = execute(run, features, store, on_epoch=on_epoch)
    return summary, read_rows(folder / "runs" / run.name / "epochs.parquet")


def test_the_drift_is_a_number_of_each_epoch_and_a_stopped_run_gives_equal_rows(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("lossgauge.study.run.execute.CHECKPOINT_SECONDS", -1.0)
    features, runs = runs_by_title(
        vectors_plan(write_vectors(tmp_path / "v.npz"), WITH, "epochs=2")
    )
    run = runs["scl(memory=64)"]
    summary, epochs = executed(run, features, tmp_path / "whole")
    drifts = [row["memory_drift"] for row in epochs]
    assert drifts[0] is None
    assert all(0 < drift < 0.5 for drift in drifts[1:])
    assert summary["memory_drift"] == drifts[-1]

    def stop(epoch):
        if epoch == 2:  # there is a checkpoint of the first
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executed(run, features, tmp_path / "stopped", stop)
    done = []
    _, again = executed(run, features, tmp_path / "stopped", done.append)
    assert done == [2]
    clock = {"seconds", "step_milliseconds", "probe_milliseconds"}
    assert [{k: v for k, v in row.items() if k not in clock} for row in again] == [
        {k: v for k, v in row.items() if k not in clock} for row in epochs
    ]


@pytest.mark.slow
def test_a_study_with_a_memory_ends_with_its_page_and_the_drift_in_its_tables(tmp_path):
    plan = vectors_plan(write_vectors(tmp_path / "v.npz"), WITH, "memory=20", "seeds=2")
    run_study(plan, tmp_path / "study", progress=Quiet())
    study = lg.load_study(tmp_path / "study")
    runs = study.runs
    assert runs["memory_drift"].notna().tolist() == [loss != "untrained" for loss in runs["loss"]]
    study.report(str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "scl(memory=64)" in page
    assert "memory drift" in page


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["memory=-1"], "memory must be at least 0, got -1"),
        (["memory=true"], "memory must be a whole number"),
        (["losses=[{triplet: {memory: 2.5}}]"], "memory of a loss must be a whole number from 0"),
        (["losses=[{triplet: {memory: {low: 1, high: 9}}}]"], "memory of a loss must be a whole"),
        (["memory=9", "sampler=drawn"], "memory has no effect with sampler: drawn"),
        (
            ["memory=9", "datasets=wordnet", "backbone=minilm-l6"],
            "memory has no effect on queries and documents; remove it",
        ),
    ],
)
def test_a_memory_that_makes_no_sense_is_one_clear_line(overrides, message):
    with pytest.raises(PlanError) as caught:
        parse_plan(SMALL, overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["memory=9", "losses=[scl, arcface]"],
            "arcface cannot use a memory: it needs a loss that",
        ),
        (["losses=[{mined: {memory: 4}}]"], "mined(memory=4) cannot use a memory"),
        (
            ["losses=[{smooth_ap: {memory: 4, include_self: true}}]"],
            "does not count a row for itself",
        ),
        (
            ["memory=181"],
            "v.npz, triplet: a memory of 181 rows is larger than the training side, which has 180 here; give at most 180",
        ),
        (["memory=150", "tune={trials: 2}"], "which has 144 here; give at most 144"),
        (["losses=[triplet, {scl: {memory: 31}}]", "labels={per_class: 5}"], "which has 30 here"),
    ],
)
def test_a_memory_that_the_loss_or_the_data_cannot_have_is_one_clear_line(
    tmp_path, overrides, message
):
    plan = vectors_plan(write_vectors(tmp_path / "v.npz"), *overrides)
    with pytest.raises(PlanError) as caught:
        prepared(plan)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_largest_memory_is_the_training_side(tmp_path):
    features, runs = runs_by_title(vectors_plan(write_vectors(tmp_path / "v.npz"), "memory=180"))
    training = set_up(runs["triplet"], features).training
    assert (training.memory_size, training.memory) == (180, None)
