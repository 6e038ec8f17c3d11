"""What the report calls our choice is what the plan says."""

import pytest

from lossgauge.plan.assumptions import assumptions
from tests.study.schedule.test_runs import plan


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["head=mlp", "hidden_size=48"], "head", "two layers with 48 ReLU units between them"),
        (["embedding_size=32"], "head", "one linear layer to 32"),
        (["center_features=false"], "features", "as the backbone gives them"),
        ([], "features", "minus the mean of the training rows"),
        (["sampler=m_per_class"], "sampler", "the same number of samples of each class"),
        (["sampler=drawn"], "sampler", "one random pair (half of them positive) or triplet"),
        ([], "selection", "the last epoch: no epoch is selected"),
        (
            ["selection=oracle"],
            "selection",
            "best MAP@R on the test side itself: the results are too good",
        ),
        (
            ["selection=best-validation", "selection_metric=recall_at_1", "validation_share=0.3"],
            "selection",
            "best R@1 on a validation slice of the training side (30 % of its classes",
        ),
        (["tune={trials: 7, epochs: 2}"], "tuning", "7 trials of 2 epochs for every loss"),
        (["tune={trials: 7}"], "tuning", "7 trials of 4 epochs for every loss"),
        (
            ["tune={trials: 7, sampler: random}", "selection_metric=recall_at_1"],
            "tuning",
            "drawn at random; compared by R@1 on a validation slice",
        ),
        (["tune={trials: 7}"], "tuning", "proposed by TPE"),
        ([], "loss settings", "not tuned: as in the settings column"),
    ],
)
def test_each_choice_is_that_of_the_plan(overrides, key, words):
    assert words in assumptions(plan(*overrides))[key]


def test_without_a_search_nothing_is_said_of_one():
    assert "tuning" not in assumptions(plan())
    assert not assumptions(plan("tune={trials: 7}"))["loss settings"].startswith("not tuned")
