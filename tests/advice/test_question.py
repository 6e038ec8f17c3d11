"""What is asked, and what the plan takes from the data."""

import pytest
import torch

from lossgauge.advice.question import (
    Fit,
    Question,
    as_dataset,
    base_plan,
    check_question,
    fit_to,
    has_unseen_classes,
    training_labels,
)
from lossgauge.errors import InputError
from lossgauge.plan.yaml_file import load_plan
from tests.support.studies import fake_features


def data(classes, rows, *, unseen):
    """So many rows of each class on each side; unseen: the test side has as many other classes."""
    side = torch.arange(classes).repeat_interleave(rows)
    labels = torch.cat([side, side + classes * unseen])
    order = torch.arange(len(labels))
    return fake_features()._replace(
        features=torch.zeros(len(labels), 2),
        labels=labels,
        train=order[: len(side)],
        test=order[len(side) :],
    )


@pytest.mark.parametrize(
    ("classes", "share", "held"),
    [(6, 0.5, 3), (20, 0.5, 10), (40, 0.25, 10), (100, 0.2, 20)],
)
def test_of_unseen_classes_ten_are_held_out_or_half_of_them(classes, share, held):
    features = data(classes, 5, unseen=True)
    assert has_unseen_classes(features)
    assert fit_to(features).validation_share == pytest.approx(share)
    assert len(training_labels(features, share).unique()) == classes - held


def test_of_shared_classes_a_fifth_of_the_rows_is_held_out():
    features = data(6, 10, unseen=False)
    assert not has_unseen_classes(features)
    assert fit_to(features) == Fit(0.2, 4)
    assert training_labels(features, 0.2).unique(return_counts=True)[1].tolist() == [8] * 6


def test_small_classes_get_two_rows_of_each():
    assert fit_to(data(40, 3, unseen=True)).samples_per_class == 2


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("digits", "digits"),
        ("folder:pets", "folder:pets"),
        ("pets/manifest.csv", "folder:pets/manifest.csv"),
        ("pets.parquet", "folder:pets.parquet"),
        ("embeddings:x.parquet", "embeddings:x.parquet"),
        ("folder:manifest.csv", "folder:manifest.csv"),
    ],
)
def test_a_manifest_is_a_folder(given, name):
    assert as_dataset(given) == name


def test_names_of_columns_are_those_of_the_study():
    asked = Question("embeddings:x.parquet", embeddings_name="embedding", labels_name="sku")
    plan = load_plan(base_plan(asked, epochs=3).model_dump(mode="json", exclude_unset=True))
    assert (plan.embeddings_name, plan.labels_name) == ("embedding", "sku")
    check_question(asked)
    with pytest.raises(InputError, match="labels_name name arrays or columns of embeddings:PATH"):
        check_question(Question("folder:photos", labels_name="sku"))
    with pytest.raises(InputError, match="must be text, got 'embedding', 7"):
        check_question(asked._replace(labels_name=7))


def test_a_wrong_goal_is_told_the_goals_once():
    with pytest.raises(InputError) as raised:
        check_question(Question("digits", "fast"))
    assert str(raised.value).count("diversity") == 1


@pytest.mark.parametrize("fit", [None, Fit(), Fit(0.5, 2)])
def test_the_study_of_a_question_is_a_valid_file(fit):
    plan = base_plan(Question("digits", "top1"), epochs=3, fit=fit, sample=100)
    assert load_plan(plan.model_dump(mode="json", exclude_unset=True)) == plan
    assert len(plan.losses) == 7
    if fit is not None:
        assert plan.selection_metric == "recall_at_1"
        assert (plan.validation_share, plan.samples_per_class) == fit[:2]
