"""A study that uses only some labels of the training side."""

import pytest

from lossgauge.deployment.export import export_head
from lossgauge.errors import PlanError
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.study.prepare import prepare
from lossgauge.study.run.setup import as_measured, set_up
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.runs import plan_runs
from tests.support.studies import Quiet, vectors_plan, write_vectors

FEW = "labels=[{per_class: 3}, {per_class: 6}, all]"


def test_each_entry_is_a_dataset_with_its_own_rows_for_each_seed_and_the_same_test_side(tmp_path):
    plan = vectors_plan(write_vectors(tmp_path / "v.npz"), FEW, "seeds=2")
    prepared, _ = prepare(plan, progress=Quiet())
    assert [of.dataset for of in prepared] == [
        "embeddings:v.npz (3 per class)",
        "embeddings:v.npz (6 per class)",
        "embeddings:v.npz",
    ]
    rows = {}
    for of in prepared:
        for run in plan_runs(plan, of):
            used = as_measured(of, run.config)
            assert used.test.equal(of.test)
            assert len(used.train) == run.config.train_samples
            assert run.config.source == "embeddings:v.npz"
            rows.setdefault((run.config.train_samples, run.seed), []).append(used.train)
    # the untrained head and the loss of a seed use the same rows
    assert all(one.equal(other) for one, other in rows.values())
    sets = {key: {*one.tolist()} for key, (one, _) in rows.items()}
    assert [*sets] == [(18, 0), (18, 1), (36, 0), (36, 1), (180, 0), (180, 1)]
    assert sets[18, 0] < sets[36, 0] < sets[180, 0] == sets[180, 1]
    assert sets[18, 0] != sets[18, 1]


def test_a_run_with_all_labels_has_the_id_that_it_has_without_the_key(tmp_path):
    path = write_vectors(tmp_path / "v.npz")
    names = []
    for changes in ([], [FEW]):
        plan = vectors_plan(path, *changes)
        prepared, _ = prepare(plan, progress=Quiet())
        names.append({run.name for run in plan_runs(plan, prepared[-1])})
    assert names[0] == names[1]


def test_every_batch_of_a_run_is_made_of_the_rows_that_keep_their_label(tmp_path):
    plan = vectors_plan(write_vectors(tmp_path / "v.npz"), "labels={per_class: 8}", "seeds=2")
    (of,), _ = prepare(plan, progress=Quiet())
    for run in plan_runs(plan, of):
        kept = {*as_measured(of, run.config).train.tolist()}
        setup = set_up(run, of)
        assert {*setup.features.train.tolist()} == kept
        if run.config.is_trained:
            seen = {
                row
                for epoch in range(1, 9)
                for rows in setup.batches(epoch)
                for row in rows.tolist()
            }
            assert seen == kept


def test_a_study_of_few_labels_ends_with_its_page_and_a_head(tmp_path):
    plan = vectors_plan(write_vectors(tmp_path / "v.npz"), "labels={per_class: 4}", "epochs=1")
    run_study(plan, tmp_path / "study", progress=Quiet())
    exported = export_head(tmp_path / "study", tmp_path / "head")
    assert exported.head.manifest.trained.dataset == "embeddings:v.npz (4 per class)"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            "{per_class: 31}",
            "per_class 31 is above the rows of a class: class 0 has 30 training rows; give at most 30",
        ),
        (
            "{share: 0.01}",
            "share 0.01 leaves a class without a row: class 0 has 30 training rows; give at least 0.017",
        ),
        (
            "{long_tail: 100}",
            "long_tail 100 leaves a class without a row: class 0 has 30 training rows",
        ),
    ],
)
def test_too_few_rows_are_one_error_before_any_run(tmp_path, labels, words):
    plan = vectors_plan(write_vectors(tmp_path / "v.npz"), f"labels={labels}")
    with pytest.raises(PlanError, match=f"^embeddings:v.npz: labels: {words}"):
        prepare(plan, progress=Quiet())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("{share: 1.5}", "labels.0.share must be at most 1, got 1.5$"),
        ("{perclass: 2}", "unknown key 'labels.0.perclass' .did you mean 'per_class'"),
        ("{per_class: true}", "labels.0.per_class must be a number, got True"),
        ("{per_class: 2, share: 0.1}", "exactly one of share, per_class, long_tail"),
        ("{}", "exactly one of share, per_class, long_tail"),
        ("[{per_class: 2}, {per_class: 2}]", "listed twice: 2 per class"),
        ("some", "labels.0 must be keys and values, got 'some'"),
        ("[]", "labels: give at least one entry"),
    ],
)
def test_a_wrong_key_is_refused(labels, words):
    text = "{datasets: [digits], losses: [triplet], seeds: 1, epochs: 1, batch_size: 8, learning_rate: 0.1}"
    with pytest.raises(PlanError, match=words):
        parse_plan(text, overrides=[f"labels={labels}"])


def test_queries_have_no_labels_to_leave_out():
    text = "{datasets: ['pairs:x'], losses: [info_nce], seeds: 1, epochs: 1, batch_size: 8, learning_rate: 0.1}"
    with pytest.raises(PlanError, match="labels has no effect on queries and documents; remove it"):
        parse_plan(text, overrides=["labels={per_class: 2}"])
