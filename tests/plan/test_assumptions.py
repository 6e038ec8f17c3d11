"""What the report calls our choice is what the plan says."""

import re

import pytest

from lossgauge.plan.assumptions import assumptions
from lossgauge.plan.yaml_file import parse_plan
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


def test_of_queries_and_documents_nothing_is_said_of_classes_or_images():
    def of(*overrides: str) -> dict[str, str]:
        text = "datasets: [wordnet]\nlosses: [mnrl]\nseeds: 1\nepochs: 2\nbatch_size: 8\nlearning_rate: 0.1"
        return assumptions(parse_plan(text, overrides=list(overrides)))

    adapter = of("head=residual", "rank=4", "selection=best-validation", "backbone=minilm-l6")
    assert adapter["backbone"] == "minilm-l6, frozen"
    assert "an update of rank 4" in adapter["head"]
    assert "the start is the raw model; queries and documents pass through it" in adapter["head"]
    assert "documents keep their embeddings" in of("head=residual", "sides=query")["head"]
    assert (
        "best nDCG@10 on a validation slice of the training side (20 % of its queries)"
        in (adapter["selection"])
    )
    assert of("negatives={from_rank: 10, to_rank: 60}")["hard negatives"].startswith(
        "1 for each query and batch, drawn from ranks 11 to 60 of the raw model"
    )
    assert of("negatives=none")["hard negatives"] == "none"
    assert "backbone" not in of()  # vectors need none
    assert "nDCG@10" in of("tune={trials: 7}")["tuning"]
    for made in (adapter, of(), of("tune={trials: 7}")):
        words = " ".join([*made, *made.values()])
        assert not re.search("class|CCL|ViT|people|image", words), words
