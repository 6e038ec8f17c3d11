import pytest

from lossgauge.errors import PlanError
from lossgauge.losses import LOSSES
from lossgauge.study.plan import built_in_studies, load_plan, parse_plan

SMALL = """
datasets: [digits]
backbone: pixels
losses: [triplet]
seeds: 2
epochs: 3
batch_size: 64
learning_rate: 0.001
"""


def test_the_built_in_studies_are_what_the_readme_promises():
    assert built_in_studies() == ["demo", "paper"]
    demo, paper = load_plan("demo"), load_plan("paper")
    assert demo.datasets == ["digits", "orl-faces"]
    assert demo.seeds == [0, 1, 2]
    assert (
        [loss.name for loss in demo.losses] == list(LOSSES) == [loss.name for loss in paper.losses]
    )
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.embedding_size) == (
        100,
        512,
        1e-4,
        128,
    )
    assert paper.datasets == ["cifar10", "cars196", "cub200", "tiny-imagenet", "fashion-mnist"]


def test_settings_can_be_changed_on_the_command_line():
    plan = parse_plan(
        SMALL,
        overrides=[
            "losses=triplet,my_loss.py:Pull",
            "seeds=4,7",
            "epochs=9",
            "backbone={digits: pixels}",
        ],
    )
    assert [loss.name for loss in plan.losses] == ["triplet", "my_loss.py:Pull"]
    assert plan.seeds == [4, 7]
    assert plan.epochs == 9
    assert plan.backbone_of("digits") == "pixels"


def test_a_loss_can_come_with_settings():
    plan = parse_plan(SMALL, overrides=["losses=[scl, {triplet: {margin: 0.1}}]"])
    assert [loss.title for loss in plan.losses] == ["scl", "triplet(margin=0.1)"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "unknown key 'epoch' in the study; did you mean 'epochs'"),
        ("epochs=many", "epochs: .*integer.*got 'many'"),
        ("epochs=0", "epochs: .*greater than or equal to 1, got 0"),
        ("seeds=0", "seeds: .*at least 1"),
        ("seeds=[1, 1]", "seeds: named twice: 1"),
        ("losses=[]", "losses: .*at least 1"),
        ("batch_size=1", "batch_size: .*greater than or equal to 2"),
        ("learning_rate=.inf", "learning_rate"),
        ("epochs", "--set takes key=value, got 'epochs'"),
        ("epochs={", "not valid YAML"),
    ],
)
def test_a_wrong_key_or_value_is_refused_in_words(override, message):
    with pytest.raises(PlanError, match=message):
        parse_plan(SMALL, overrides=[override])


def test_a_missing_key_is_named():
    with pytest.raises(PlanError, match="the study lacks the key 'epochs'"):
        parse_plan(SMALL.replace("epochs: 3", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "must hold keys and values, got list"),
        ("a: [", "not valid YAML"),
        ("!!python/object:os.x {}", "YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        parse_plan(text)


def test_an_unknown_study_gets_the_nearest_name(tmp_path):
    with pytest.raises(PlanError, match=r"no study is named 'dmo' .* did you mean 'demo'"):
        load_plan("dmo")
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="cannot be read as text"):
        load_plan(str(binary))


def test_a_backbone_must_be_named_for_each_dataset():
    plan = parse_plan(SMALL, overrides=["backbone={orl-faces: pixels}"])
    with pytest.raises(PlanError, match="backbone names none for 'digits'"):
        plan.backbone_of("digits")
