"""The last lines of the answer: the commands that follow from it."""

from __future__ import annotations

import pytest

from lossgauge.advice.phases import study_of
from lossgauge.advice.question import Question, base_plan
from lossgauge.advice.record import Advice, WinningRun
from lossgauge.plan.loss import LossPlan


def yaml_of(question: Question) -> str:
    return study_of(LossPlan(name="triplet"), base_plan(question, epochs=3))


YAML = yaml_of(Question("folder:my photos", backbone="pixels"))


def advice(train: str, yaml: str = YAML) -> Advice:
    return Advice(
        data="folder:my photos",
        goal="ranking",
        minutes=10.0,
        train=train,
        loss="triplet",
        settings={},
        clear=True,
        runner_up=None,
        sentences=(),
        yaml=yaml,
        code="",
        run=WinningRun("folder:my photos", "triplet", 0, "advise/study/runs/a"),
        study="advise/study",
        study_file="advise/winner-photos.yaml",
        page=None,
        complete=True,
        failed=0,
        seconds=1.0,
    )


@pytest.mark.parametrize("train", ["keep", "equivalent"])
def test_where_the_frozen_features_are_as_good_their_command_is_named(train):
    words = "lossgauge embed 'folder:my photos' --frozen --head head --out frozen.npz"
    assert (
        f"or the frozen features, minus the mean that head/ has: {words}" in advice(train).lines()
    )
    of_table = advice(train, yaml_of(Question("embeddings:x.npz")))
    assert "lossgauge embed embeddings:x.npz --frozen --head head --out frozen.npz" in str(of_table)
    named = yaml_of(Question("embeddings:x.npz", labels_name="sku"))
    assert "--frozen --head head --labels-name sku --out frozen.npz" in str(advice(train, named))


@pytest.mark.parametrize("train", ["train", "open"])
def test_where_a_head_may_be_better_they_are_not(train):
    assert "--frozen" not in str(advice(train))
