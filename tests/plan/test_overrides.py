"""Overrides on top of a study: what else they change, and the forms they may have."""

from pathlib import Path

import pytest
import yaml

from lossgauge.errors import PlanError
from lossgauge.plan.backbone import BackbonePlan
from lossgauge.plan.study import Plan
from lossgauge.plan.yaml_file import load_plan, parse_plan
from lossgauge.study.prepare import check_plan
from tests.plan.test_study import SMALL

DEFAULT_QUESTION = Plan.model_fields["question"].default
TWO = SMALL.replace("[digits]", "[digits, orl-faces]").replace(
    "backbone: pixels", "backbone: {digits: pixels, orl-faces: efficientnet-lite0}"
)


def test_a_dropped_dataset_takes_its_backbone_with_it():
    plan = parse_plan(TWO, ["datasets=digits"])
    assert plan.datasets == ["digits"]
    assert plan.backbone == {"digits": BackbonePlan(name="pixels")}
    check_plan(plan)
    assert parse_plan(TWO, ["datasets=orl-faces"]).backbone.keys() == {"orl-faces"}


def test_where_the_file_names_no_backbone_of_the_new_datasets_it_is_the_default():
    assert parse_plan(TWO, ["datasets=fashion-mnist"]).backbone == BackbonePlan(
        name="efficientnet-lite0"
    )
    plan = parse_plan(TWO, ["datasets=digits,fashion-mnist"])
    with pytest.raises(PlanError, match="'fashion-mnist'"):
        plan.backbone_of("fashion-mnist")


@pytest.mark.parametrize(
    "overrides",
    [
        ["datasets=digits", "backbone={digits: pixels, orl-faces: pixels}"],
        ["backbone={digits: pixels, orl-faces: pixels}", "datasets=digits"],
        ["backbone.orl-faces=pixels", "datasets=digits"],
    ],
)
def test_a_backbone_that_the_user_gives_for_a_dropped_dataset_is_an_error(overrides):
    with pytest.raises(PlanError, match="not in the study: 'orl-faces'"):
        check_plan(parse_plan(TWO, overrides))


def test_a_backbone_for_a_dataset_that_the_users_file_does_not_have_is_an_error():
    text = TWO.replace("orl-faces: eff", "orl-face: eff")
    for overrides in ([], ["datasets=digits,orl-faces"], ["datasets=digits"]):
        with pytest.raises(PlanError, match="not in the study: 'orl-face'"):
            check_plan(parse_plan(text, overrides))


def test_the_question_of_a_built_in_study_goes_with_the_losses_or_datasets_it_speaks_of():
    own = load_plan("demo").question
    assert "seven" in own
    for overrides in (["losses=triplet,scl,ccl"], ["datasets=digits"], {"losses": ["scl"]}):
        assert load_plan("demo", overrides).question == DEFAULT_QUESTION
    for overrides in (["epochs=3"], ["losses.triplet.margin=0.1"], ["datasets=digits, orl-faces"]):
        assert load_plan("demo", overrides).question == own


def test_a_question_of_the_user_stays(tmp_path: Path):
    asked = ["losses=triplet,scl", "question=What of two?"]
    assert load_plan("demo", asked).question == "What of two?"
    file = tmp_path / "demo.yaml"
    file.write_text(TWO + "question: Mine?")
    assert load_plan(file, ["losses=scl", "datasets=digits"]).question == "Mine?"


def test_losses_may_be_a_mapping_to_their_settings():
    text = SMALL.replace("losses: [triplet]", "losses: {triplet: {margin: 0.1}, scl: null}")
    assert [loss.title for loss in parse_plan(text).losses] == ["triplet(margin=0.1)", "scl"]
    changed = parse_plan(text, ["losses.triplet.margin=0.3", "losses.scl.temperature=0.2"])
    assert [loss.title for loss in changed.losses] == [
        "triplet(margin=0.3)",
        "scl(temperature=0.2)",
    ]
    with pytest.raises(PlanError, match="give at least one loss"):
        parse_plan(SMALL, ["losses={}"])
    with pytest.raises(PlanError, match=r"losses\.1\.settings must be keys and values, got 0\.1"):
        parse_plan(SMALL, ["losses={triplet: null, scl: 0.1}"])


def test_all_settings_of_one_loss_are_replaced_by_its_name():
    text = SMALL.replace("[triplet]", "[{triplet: {margin: 0.1, reduction: active}}, scl]")
    titles = [loss.title for loss in parse_plan(text, ["losses.triplet={margin: 0.3}"]).losses]
    assert titles == ["triplet(margin=0.3)", "scl"]
    assert parse_plan(text, ["losses.triplet=null"]).losses[0].title == "triplet"


def test_a_study_may_be_a_dict_and_so_may_its_overrides():
    study = {**yaml.safe_load(TWO), "seeds": range(2), "losses": ("triplet", {"scl": None})}
    plan = load_plan(study, {"epochs": 9, "losses.scl.temperature": 0.5, "datasets": ("digits",)})
    assert (plan.epochs, plan.seeds, plan.datasets) == (9, [0, 1], ["digits"])
    assert [loss.title for loss in plan.losses] == ["triplet", "scl(temperature=0.5)"]
    assert plan.backbone.keys() == {"digits"}
    assert study["epochs"] == 3
    assert "orl-faces" in study["backbone"]


def test_overrides_as_a_dict_and_as_text_are_one():
    texts = ["epochs=9", "tune.trials=4", "losses={triplet: {margin: 0.1}}", "learning_rate=1e-3"]
    values = {
        "epochs": 9,
        "tune.trials": 4,
        "losses": {"triplet": {"margin": 0.1}},
        "learning_rate": 1e-3,
    }
    assert parse_plan(SMALL, texts) == parse_plan(SMALL, values)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, r"unknown key 'epoch' in the study \(did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs must be a whole number, got 'many'"),
        ({"losses.ccl.margin": 1}, r"--set 'losses.ccl.margin=1': no loss is named 'ccl'"),
        ({"epochs": object}, "epochs must be a whole number"),
    ],
)
def test_a_wrong_override_in_a_dict_is_one_line(overrides, message):
    with pytest.raises(PlanError, match=message) as caught:
        load_plan(yaml.safe_load(SMALL), overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_a_path_is_a_file_even_if_it_has_the_name_of_a_study():
    with pytest.raises(PlanError, match="no study is named"):
        load_plan(Path("demo"))


def test_a_single_text_is_one_override():
    assert parse_plan(SMALL, "epochs=4").epochs == 4
