import math
import os
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from lossgauge.errors import LossgaugeError, PlanError
from lossgauge.losses.registry import ALL_LOSSES, LOSSES, loss_class
from lossgauge.plan.backbone import BackbonePlan
from lossgauge.plan.study import FIRST_TRIAL_SEED, Plan, Tune, without_effect
from lossgauge.plan.yaml_file import built_in_studies, load_plan, parse_plan, schema
from lossgauge.study.prepare import check_plan

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
    assert built_in_studies() == [
        "author-conventions",
        "claims",
        "demo",
        "dose",
        "few-labels",
        "negatives",
        "paper",
        "samplers",
        "small-batch",
        "two-losses",
        "weights-or-directions",
        "width",
        "wordnet",
    ]
    demo, paper = load_plan("demo"), load_plan("paper")
    for name in ("wordnet", "negatives", "width"):
        of_pairs = load_plan(name)
        assert (of_pairs.datasets, of_pairs.head, of_pairs.seeds) == (
            ["wordnet"],
            "residual",
            [0, 1],
        )
        assert all(getattr(loss_class(loss.name), "pair_form", False) for loss in of_pairs.losses)
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


def test_all_losses_are_those_that_take_labels():
    names = [loss.name for loss in parse_plan(SMALL, overrides=["losses=all"]).losses]
    assert set(LOSSES) < set(names) < set(ALL_LOSSES)
    assert {"circle", "smooth_ap", "nscl"} < set(names)
    assert "gist" not in names
    names = [loss.name for loss in parse_plan(SMALL, overrides=["losses=all,my.py:Pull"]).losses]
    assert names[-1] == "my.py:Pull"
    with pytest.raises(PlanError, match="listed twice: triplet"):
        parse_plan(SMALL, overrides=["losses=all,triplet"])


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
    assert plan.backbone_of("digits").name == "pixels"


def test_the_study_file_of_the_docs_is_one():
    text = (Path(__file__).parents[2] / "docs" / "run-a-study.md").read_text(encoding="utf-8")
    plan = parse_plan(text.split("```yaml\n")[1].split("```")[0])
    assert [loss.name for loss in plan.losses] == [
        "triplet",
        "scl",
        "n_pair",
        "info_nce",
        "mined",
        "my_loss.py:Pull",
    ]
    assert plan.tune.trials == 20


def test_a_loss_can_come_with_settings():
    plan = parse_plan(SMALL, overrides=["losses=[scl, {triplet: {margin: 0.1}}]"])
    assert [loss.title for loss in plan.losses] == ["scl", "triplet(margin=0.1)"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", r"unknown key 'epoch' in the study \(did you mean 'epochs'"),
        ("epochs=many", "^the study: epochs must be a whole number, got 'many'$"),
        ("epochs=0", "^the study: epochs must be at least 1, got 0$"),
        ("seeds=0", "seeds: give at least one seed, got 0$"),
        ("seeds=[]", "seeds: give at least one seed"),
        ("seeds=-1", "the number of seeds must be from 1 to 1,000, got -1"),
        ("seeds=1000000000000", "the number of seeds must be from 1"),
        (f"seeds=[{FIRST_TRIAL_SEED}]", "seeds.0 must be below 1,000,000, got 1000000$"),
        ("datasets=[]", "datasets: give at least one dataset"),
        ("seeds=[1, 1]", "seeds: listed twice: 1"),
        ("losses=[]", "losses: give at least one loss"),
        ("losses=", "losses must be a list, got nothing"),
        ("losses=[null]", "losses.0 must be keys and values, got nothing"),
        (
            "losses=[{triplet: {}, ccl: {}}]",
            "each entry of a list must be one loss, .*one entry has triplet, ccl",
        ),
        ("backbone=5", r"backbone must be a name, \{name: …, settings: .* per dataset"),
        ("backbone={name: pixels, setting: {}}", "backbone must be a name"),
        (
            "backbone={name: hf:x/y, settings: {download: true}}",
            "download cannot be set in a study file: use --download",
        ),
        ("epochs=true", "epochs must be a whole number, got True$"),
        ("epochs=1e9", "^the study: epochs must be a whole number, got '1e9'$"),
        ("epochs=1.5", "epochs must be a whole number, got 1.5$"),
        ("epochs=1:30", "epochs must be a whole number, got '1:30'$"),
        ("learning_rate=1:30.5", "learning_rate must be a number, got '1:30.5'$"),
        ("seeds=1:30", "seeds.0 must be a whole number, got '1:30'$"),
        ("tune={trials: 1:30}", "tune.trials must be a whole number, got '1:30'$"),
        ("question=true", "question must be text, got True$"),
        ("sensitivity=true", "sensitivity must be a number, got True$"),
        (
            "split=true",
            "split must be 'given', 'class-disjoint', 'stratified' or 'component-disjoint', got True$",
        ),
        ("tune={1: 2}", "^the study: tune: a key must be text, got 1$"),
        ("losses={triplet: {1: 2}}", "^the study: losses.0.settings: a key must be text, got 1$"),
        ("tune={null: 2}", "^the study: tune: a key must be text, got null$"),
        ("learning_rate=true", "learning_rate must be a number, got True$"),
        ("seeds=true", "seeds must be a whole number, got True$"),
        ("tune={trials: true}", "tune.trials must be a whole number, got True$"),
        ("center_features=1", "center_features must be true or false, got 1$"),
        ("embedding_size=100000000000000", "embedding_size must be at most 65,536, got 1"),
        ("epochs=99999999999999999999999", "epochs must be at most 1,000,000, got 9"),
        ("batch_size=1", "batch_size must be at least 2, got 1$"),
        ("learning_rate=.inf", "learning_rate must be a finite number, got inf$"),
        ("learning_rate=0", "learning_rate must be above 0, got 0$"),
        ("head=conv", "head must be 'linear', 'mlp' or 'residual', got 'conv'$"),
        (
            "losses={triplet: {margin: {low: 1, high: 2, log: maybe}}}",
            "losses.0.settings.margin.log must be true or false, got 'maybe'$",
        ),
        (
            "losses={triplet: {margin: {choices: 3}}}",
            "losses.0.settings.margin must be a list, got 3$",
        ),
        (
            "losses={triplet: {margin: {choices: [1]}}}",
            "losses.0.settings.margin must have at least 2 entries, got",
        ),
        (f"epochs={'9' * 30}x", "epochs must be a whole number, got"),
        (
            "epochs=0|batch_size=1",
            "^the study: epochs must be at least 1, got 0; batch_size must be at least 2, got 1$",
        ),
        ("epochs", "--set takes key=value, got 'epochs'"),
        ("=3", "--set takes key=value, got '=3'"),
        ("epochs={", "not valid YAML"),
        (
            "split=stratified",
            "split has no effect without a dataset embeddings:PATH or folder:PATH or texts:PATH or pairs:PATH; remove it",
        ),
        (
            "labels_name=who",
            "labels_name has no effect without a dataset embeddings:PATH; remove it",
        ),
        ("tune={trials: 3, trials: 4}", "not valid YAML"),
    ],
)
def test_a_wrong_key_or_value_is_refused_in_words(override, message):
    with pytest.raises(PlanError) as caught:
        parse_plan(SMALL, overrides=override.split("|"))
    # what blames the override has a test of its own
    words = re.sub(r"^the study with --set .*?': ", "the study: ", str(caught.value))
    assert re.search(message, words)


def test_an_error_names_the_overrides_that_made_it():
    with pytest.raises(PlanError) as caught:
        parse_plan(SMALL, overrides=["epochs=0", "seeds=2", "batch_size=1"])
    assert str(caught.value) == (
        "the study with --set 'epochs=0' and --set 'batch_size=1': epochs must be at least 1, got 0; "
        "batch_size must be at least 2, got 1"
    )
    with pytest.raises(PlanError, match=r"^the study: the key 'epochs' is missing$"):
        parse_plan(SMALL.replace("epochs:", "# epochs:"), overrides=["seeds=2"])


ODD = (
    *(-1, 0, 1, 10**30, 1.5, math.nan, math.inf, -math.inf, True, False, None, "", "x", "1.5"),
    *("9" * 30, "\ud800", "x" * 10_001, b"x", object(), 1j, ("x",), {"x"}, []),
    *([None], [[]], [{}], [1], ["x"] * 1_001, {}, {"x": 1}, {1: 2}, {"low": 1}, {"choices": [1]}),
    *({"low": "x", "high": []}, {"choices": {}}, {"name": []}, {"name": "x", "settings": [1]}),
)


@pytest.mark.parametrize("key", [*Plan.model_fields, *(f"tune.{key}" for key in Tune.model_fields)])
def test_no_odd_value_gets_the_words_of_pydantic(key):
    for value in ODD:
        try:
            load_plan(yaml.safe_load(SMALL), overrides={key: value})
        except LossgaugeError as error:
            message = str(error)
            assert not re.search("should |is not valid|Input |Extra |Field required", message), (
                message
            )
            assert key.split(".")[0] in message or "the loss" in message


def test_missing_keys_are_named_and_the_file_once():
    with pytest.raises(PlanError, match=r"^the study: the key 'epochs' is missing$"):
        parse_plan(SMALL.replace("epochs: 3", ""))
    with pytest.raises(PlanError) as caught:
        parse_plan("datasets: digits\nlosses: scl\nlearning_rate: 0.1\nseeds: 1", source="own.yaml")
    assert str(caught.value) == (
        "own.yaml: the key 'epochs' is missing; the key 'batch_size' is missing"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "must contain keys and values, got list"),
        ("a: [", "not valid YAML"),
        ("a: 1\na: 2", "the key 'a' appears twice"),
        ("[" * 5000, "not valid YAML"),
        ("!!python/object:os.x {}", "YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        parse_plan(text)


def test_an_unknown_study_gets_the_nearest_name(tmp_path):
    with pytest.raises(PlanError, match=r"no study is named 'dmo' .* \(did you mean 'demo'"):
        load_plan("dmo")
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"x\.yaml is not a YAML file: it is not text"):
        load_plan(str(binary))


def test_a_backbone_must_be_named_for_each_dataset():
    plan = parse_plan(SMALL, overrides=["backbone={orl-faces: pixels}"])
    with pytest.raises(PlanError, match="backbone has no entry for 'digits'"):
        plan.backbone_of("digits")


def test_ready_embeddings_take_no_backbone(tmp_path):
    vectors = f"embeddings:{tmp_path}/vectors.npz"
    asked = [f"datasets=['{vectors}', digits]", f"backbone={{'{vectors}': pixels, digits: pixels}}"]
    with pytest.raises(
        PlanError, match=r"vectors.npz takes none, because its rows are already features"
    ):
        check_plan(parse_plan(SMALL, overrides=asked))


def refused(*overrides):
    """The words in which a study with these overrides is refused."""
    with pytest.raises(PlanError) as caught:
        parse_plan(SMALL, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "look", "expected"),
    [
        ("losses.triplet.margin=0.1", lambda plan: plan.losses[0].settings, {"margin": 0.1}),
        ("tune.trials=4", lambda plan: plan.tune.trials, 4),
        ("tune=null", lambda plan: plan.tune, None),
        ("sensitivity=0.5,2", lambda plan: plan.sensitivity, [0.5, 2.0]),
        ("sensitivity=2", lambda plan: plan.sensitivity, [2.0]),
        ("seeds=1", lambda plan: plan.seeds, [0]),
        ("datasets=digits, orl-faces", lambda plan: plan.datasets, ["digits", "orl-faces"]),
    ],
)
def test_a_dotted_key_reaches_inside(override, look, expected):
    assert look(parse_plan(SMALL, overrides=[override])) == expected


def test_a_dotted_key_is_made_where_there_is_none_and_later_ones_add_to_it():
    plan = parse_plan(
        SMALL.replace("backbone: pixels\n", ""),
        overrides=["backbone.digits=pixels", "tune.trials=4", "tune.epochs=2", "tune.trials=6"],
    )
    assert plan.backbone == {"digits": BackbonePlan(name="pixels")}
    assert (plan.tune.trials, plan.tune.epochs, plan.tune.sampler) == (6, 2, "tpe")
    assert parse_plan(SMALL, overrides=["tune.trials=4", "tune=null"]).tune is None


def test_a_setting_of_one_loss_of_several_is_set_by_the_name_of_the_loss():
    plan = parse_plan(
        SMALL,
        overrides=[
            "losses=[triplet, {scl: {reduction: active}}, ccl, deep/my.loss.py:Pull]",
            "losses.scl.temperature=0.2",
            "losses.ccl.learning_rate=0.01",
            "losses.deep/my.loss.py:Pull.strength=3",
        ],
    )
    assert [loss.title for loss in plan.losses] == [
        "triplet",
        "scl(reduction=active, temperature=0.2)",
        "ccl(learning_rate=0.01)",
        "deep/my.loss.py:Pull(strength=3)",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["losses.ccl.margin=1"], "no loss is named 'ccl' (known: triplet"),
        (["losses.triplett.margin=1"], "no loss is named 'triplett' (did you mean 'triplet'?"),
        (["losses.triplet=1"], "name a setting, as in losses.triplet.margin=0.1"),
        (
            ["losses=[triplet, {triplet: {margin: 1}}]", "losses.triplet.margin=2"],
            "2 losses are named 'triplet'; set the whole list `losses` instead",
        ),
        (["epochs.x=1"], "epochs is 3: it has no key 'x'"),
        (["backbone.digits=pixels"], "backbone is 'pixels': it has no key 'digits'"),
        (["losses=5", "losses.triplet.margin=1"], "losses is 5: it has no key 'triplet'"),
        (
            ["losses=[{triplet: {}, ccl: {}}]", "losses.triplet.margin=1"],
            "each entry of a list must be one loss",
        ),
    ],
)
def test_a_dotted_key_that_leads_nowhere_is_refused_in_words(overrides, message):
    assert message in refused(*overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune={trial: 3}", "unknown key 'tune.trial' (did you mean 'trials'?"),
        (
            "tune={learning_rate: {lo: 0.1, high: 1}}",
            "'tune.learning_rate.lo' (did you mean 'low'?",
        ),
        (
            "losses=[{nam: triplet, settings: {}}]",
            "unknown key 'losses.0.nam' (did you mean 'name'",
        ),
        (
            "losses=[{triplet: {margin: {low: 1, hihg: 2}}}]",
            "unknown key 'losses.0.settings.margin.hihg' (did you mean 'high'?",
        ),
        (
            "losses=[{triplet: {margin: {choices: [1, 2], low: 0}}}]",
            "unknown key 'losses.0.settings.margin.low' (known: choices",
        ),
        ("selecton=last", "unknown key 'selecton' in the study (did you mean 'selection'?"),
        ("selecton.x=last", "unknown key 'selecton' in the study (did you mean 'selection'?"),
    ],
)
def test_an_unknown_nested_key_gets_the_nearest_one(override, message):
    assert message in refused(override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["samples_per_class=8"],
            "samples_per_class has no effect with sampler: random; remove it, or set sampler: m_per_class",
        ),
        (
            ["hidden_size=8"],
            "hidden_size has no effect with head: linear; remove it, or set head: mlp",
        ),
        (
            ["momentum=0.5", "optimizer=adamw"],
            "momentum has no effect with optimizer: adamw; remove it, or set optimizer: sgd",
        ),
        (
            ["selection_metric=recall_at_1"],
            "selection_metric has no effect with selection: last; remove it, or set selection: "
            "best-validation, or tune",
        ),
        (
            ["validation_share=0.3", "selection=oracle"],
            "validation_share has no effect with selection: oracle; remove it, or set selection: "
            "best-validation, or tune",
        ),
        (["warmup_epochs=3"], "warmup_epochs must be below epochs, got 3 of 3"),
        (
            ["warmup_epochs=2", "tune={epochs: 2}"],
            "warmup_epochs must be below tune.epochs too, or a trial would be only warm-up, got 2 of 2",
        ),
        (
            ["losses.triplet.margin={low: 0.1, high: 1}"],
            "triplet has a range for 'margin', which needs tune, as in tune: {trials: 20}; or give one value",
        ),
        (["sensitivity=0.5,1"], "sensitivity: a factor of 1 leaves the loss unchanged; remove it"),
    ],
)
def test_each_contradiction_is_one_clear_message(overrides, message):
    assert refused(*overrides) == f"the study: {message}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["samples_per_class=8", "sampler=m_per_class"],
        ["hidden_size=8", "head=mlp"],
        ["momentum=0.5", "optimizer=sgd"],
        ["selection_metric=recall_at_1", "selection=oracle"],
        ["selection_metric=recall_at_1", "tune.trials=2"],
        ["validation_share=0.3", "selection=best-validation"],
        ["validation_share=0.3", "tune.trials=2"],
        ["warmup_epochs=2"],
        ["warmup_epochs=2", "tune={trials: 2}"],
        ["losses.triplet.margin={low: 0.1, high: 1}", "tune.trials=2"],
        ["sensitivity=0.5"],
    ],
)
def test_what_belongs_together_is_taken(overrides):
    parse_plan(SMALL, overrides=overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs={low: 1, high: 2}", "epochs cannot be tuned; only the settings of a loss and its"),
        ("batch_size={choices: [32, 64]}", "batch_size cannot be tuned"),
        ("sampler={choices: [random, stratified]}", "sampler cannot be tuned"),
        ("tune={trials: {low: 2, high: 9}}", "tune.trials cannot be tuned"),
        (
            "learning_rate={low: 0.1, high: 1}",
            "learning_rate cannot be tuned; only the settings of a loss and its learning_rate can (set its "
            "range with tune.learning_rate): give one value",
        ),
        (
            "tune={learning_rate: {low: 0, high: 1}}",
            "tune.learning_rate: learning_rate must be a number above 0, got 0.0",
        ),
        ("tune=20", "tune must be keys and values, got 20 (as in {trials: 20})"),
        (
            "negatives=mined",
            "negatives must be 'given' or 'none', got 'mined' (mined: as in {from_rank: 10, to_rank: 50})",
        ),
        ("tune={trials: 1}", "tune.trials must be at least 2, got 1"),
    ],
)
def test_what_cannot_be_tuned_is_said_with_the_rule(override, message):
    assert message in refused(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "selection=best-validation|validation_share=0.51",
            "validation_share must be at most 0.5, got 0.51",
        ),
        (
            "selection=best-validation|validation_share=0",
            "validation_share must be above 0, got 0$",
        ),
        ("optimizer=sgd|momentum=1", "momentum must be below 1, got 1$"),
        ("optimizer=sgd|momentum=-0.1", "momentum must be at least 0, got -0.1$"),
        ("weight_decay=-0.1", "weight_decay must be at least 0, got -0.1$"),
        ("sensitivity=0", "sensitivity.0 must be above 0, got 0$"),
        (
            f"datasets=[{', '.join(f'd{i}' for i in range(1001))}]",
            "at most 1,000 entries, got 1,001",
        ),
        ("question=.nan", "question must be text, got nan"),
        (r'question="\ud800"', "question must be text that UTF-8 can represent"),
        (r'datasets=["folder:a\0b"]', r"datasets.0: a study's text cannot contain '\\x00'"),
        (r'losses=["\e[2J.py:X"]', r"losses.0.name: a study's text cannot contain '\\x1b'"),
        (r'labels_name="a\rb"|datasets=embeddings:x', r"a study's text cannot contain '\\r'"),
        (
            "question='" + "x" * 10_001 + "'",
            "question must have at most 10,000 characters, got",
        ),
        ("." * 101 + "=1", "a key may have at most 100 parts"),
        ("losses=" + ", ".join(f"[{i}]" for i in range(9)), "not valid YAML"),
    ],
)
def test_a_value_just_beyond_what_is_allowed_is_refused_in_a_short_line(override, message):
    with pytest.raises(PlanError, match=message) as caught:
        parse_plan(SMALL, overrides=override.split("|"))
    assert len(str(caught.value)) < 1_000
    assert len(str(caught.value).splitlines()) == 1


def test_values_at_the_edge_of_what_is_allowed_are_taken():
    for override in (
        "selection=best-validation|validation_share=0.5",
        "optimizer=sgd|momentum=0",
        "weight_decay=0",
        f"datasets=[{', '.join(f'd{i}' for i in range(1000))}]",
        r'question="two\nlines\tand a tab"',
        "center_features=true",
        "tune.trials=2",
    ):
        parse_plan(SMALL, overrides=override.split("|"))
    assert parse_plan(SMALL, overrides=["seeds=1000"]).seeds == list(range(1000))
    last = FIRST_TRIAL_SEED - 1
    assert parse_plan(SMALL, overrides=[f"seeds=[{last}]"]).seeds == [last]


def test_of_many_problems_the_first_are_told_and_the_others_counted():
    words = refused(f"seeds=[{', '.join(['x'] * 14)}]")
    assert words.count("seeds.") == 10
    assert words.endswith("; and 4 more")
    assert refused("losses=[1, 2]").count(";") == 1


def test_only_a_regular_file_of_text_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(PlanError, match="is not a regular file: give a YAML file"):
            load_plan(str(path))
    with pytest.raises(PlanError, match="cannot be read: File name too long"):
        load_plan("x" * 300)
    (tmp_path / "large.yaml").write_text(SMALL + "#" * 60_000)
    with pytest.raises(PlanError, match="must have at most 50,000 bytes"):
        load_plan(str(tmp_path / "large.yaml"))
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_plan(str(tmp_path / "marked.yaml")).epochs == 3


TAKEN = [
    {"losses": {"mined": {"of": {"triplet": {"margin": 0.3}}, "miner": "hard"}}},
    {"losses": [{"swap": {"weight_of": 1, "direction_of": {"nscl": None}}}]},
    {"losses": {"name": "matryoshka", "settings": {"of": {"mnrl": {"scale": 30}}}}},
    {"losses": "triplet"},
    {"losses": "triplet, ccl,my_loss.py:Pull"},
    {"losses": {"triplet": {"margin": 0.1}}},
    {"losses": {"triplet": {"margin": 0.1}, "scl": None, "my_loss.py:Pull": {}}},
    {"losses": [{"name": "triplet"}, {"name": "ccl", "settings": {"margin": 0.3}}]},
    {"losses": ["triplet", {"scl": None}, {"ccl": {}}]},
    {"losses": [{"triplet": {"reduction": "active", "margin": 1, "own": True}}]},
    {"losses": [{"triplet": {"margin": {"low": 0.1, "high": 1}}}], "tune": {"trials": 3}},
    {"losses": [{"triplet": {"margin": {"low": 0.1, "high": 1, "log": True}}}], "tune": {}},
    {"losses": [{"triplet": {"margin": {"choices": [0.1, 1]}}}], "tune": {"sampler": "random"}},
    {"losses": {"name": "triplet", "settings": {"margin": {"choices": [1, 2]}}}, "tune": {}},
    {"datasets": "digits"},
    {"datasets": "digits,orl-faces"},
    {"seeds": 5},
    {"seeds": "4,7"},
    {"seeds": [4, 7]},
    {"backbone": {"digits": "pixels"}},
    {"backbone": {"name": "efficientnet-lite0", "settings": {"side": 96}}},
    {"backbone": {"digits": "pixels", "orl-faces": {"name": "hf:x/y", "settings": {}}}},
    {"tune": None},
    {"tune": {"epochs": None, "learning_rate": {"low": 1e-4, "high": 0.1, "log": True}}},
    {"sensitivity": 2},
    {"sensitivity": "0.5,2"},
    {"sensitivity": []},
    {"sensitivity": [0.25, 4]},
    {"split": None},
    {"split": "stratified", "datasets": ["folder:photos"]},
    {"head": "mlp", "hidden_size": 4, "optimizer": "sgd", "momentum": 0, "schedule": "cosine"},
]
REFUSED = [
    {"losses": {"mined": {"of": {"triplet": {}, "scl": {}}}}},
    {"losses": {"mined": {"of": ["triplet"]}}},
    {"losses": []},
    {"losses": [{}]},
    {"losses": [None]},
    {"losses": [{"triplet": {}, "ccl": {}}]},
    {"losses": {}},
    {"losses": {"triplet": {}, "ccl": 0.1}},
    {"losses": {"triplet": {"margin": [1, 2]}, "ccl": None}},
    {"losses": [{"triplet": 0.1}]},
    {"losses": [{"triplet": {"margin": [1, 2]}}]},
    {"losses": [{"triplet": {"margin": None}}]},
    {"losses": [{"triplet": {"margin": {"low": 1, "hihg": 2}}}], "tune": {}},
    {"losses": [{"triplet": {"margin": {"choices": [1]}}}], "tune": {}},
    {"losses": [{"name": "triplet", "setting": {}}]},
    {"losses": 5},
    {"datasets": []},
    {"datasets": {"digits": "pixels"}},
    {"seeds": 0},
    {"seeds": []},
    {"seeds": -1},
    {"seeds": [-1]},
    {"seeds": [FIRST_TRIAL_SEED]},
    {"seeds": 2.5},
    {"backbone": 5},
    {"backbone": {"digits": 5}},
    {"backbone": {"name": "pixels", "setting": {}}},
    {"backbone": {"digits": {"pixels": {}}}},
    {"tune": 20},
    {"tune": {"trials": 1}},
    {"tune": {"trial": 4}},
    {"tune": {"learning_rate": 0.1}},
    {"epochs": {"low": 1, "high": 3}},
    {"sensitivity": 0},
    {"sensitivity": [-1]},
    {"epochs": 0},
    {"batch_size": 1},
    {"learning_rate": 0},
    {"head": "mpl"},
    {"validation_share": 0.6},
    {"momentum": 1, "optimizer": "sgd"},
    {"epoch": 3},
    {"epochs": True},
    {"learning_rate": True},
    {"center_features": 1},
    {"hidden_size": 10**9, "head": "mlp"},
]


def _validator():
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("change", TAKEN, ids=str)
def test_the_json_schema_takes_every_form_that_a_study_may_have(change):
    content = {**yaml.safe_load(SMALL), **change}
    parse_plan(yaml.safe_dump(content))
    _validator().validate(content)


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_the_json_schema_refuses_what_a_study_may_not_hold(change):
    content = {**yaml.safe_load(SMALL), **change}
    with pytest.raises(PlanError):
        parse_plan(yaml.safe_dump(content))
    assert not _validator().is_valid(content)


def test_the_json_schema_takes_the_built_in_studies_and_asks_for_what_has_no_default():
    for name in built_in_studies():
        text = (files("lossgauge") / "studies" / f"{name}.yaml").read_text()
        _validator().validate(yaml.safe_load(text))
    for key in ("datasets", "losses", "seeds", "epochs", "batch_size", "learning_rate"):
        content = yaml.safe_load(SMALL)
        del content[key]
        assert not _validator().is_valid(content), key


def test_the_json_schema_has_every_key_of_a_study_with_its_default():
    keys = schema()["properties"]
    plan = parse_plan(SMALL)
    assert keys.keys() == type(plan).model_fields.keys()
    written = plan.model_dump(mode="json")
    for key in (key for key, told in keys.items() if "default" in told and key not in SMALL):
        assert keys[key]["default"] == written[key]


@pytest.mark.parametrize(
    ("key", "most", "beside"),
    [
        ("epochs", 1_000_000, ()),
        ("batch_size", 1_000_000, ()),
        ("samples_per_class", 1_000_000, ("sampler=m_per_class", "batch_size=1000000")),
        ("hidden_size", 65_536, ("head=mlp",)),
        ("embedding_size", 65_536, ()),
        ("tune.trials", 100_000, ()),
        ("tune.epochs", 1_000_000, ("tune.trials=3",)),
    ],
)
def test_a_number_is_taken_up_to_its_limit_and_refused_above(key, most, beside):
    plan = parse_plan(SMALL, overrides=[*beside, f"{key}={most}"])
    for part in key.split("."):
        plan = getattr(plan, part)
    assert plan == most
    with pytest.raises(PlanError, match=f"{key} must be at most {most:,}, got {most + 1}$"):
        parse_plan(SMALL, overrides=[*beside, f"{key}={most + 1}"])


def test_a_long_value_is_shown_by_its_first_120_characters():
    with pytest.raises(PlanError) as caught:
        parse_plan(SMALL, overrides=["schedule=" + "x" * 200])
    shown = str(caught.value).split("got ")[1]
    assert shown == "'" + "x" * 119 + "…"


@pytest.mark.parametrize(
    ("key", "shown"), [("null", "null"), ("1", "1"), ("true", "True"), ("~", "null")]
)
def test_a_key_that_is_no_text_is_refused(key, shown):
    with pytest.raises(PlanError, match=f"^the study: a key must be text, got {shown}$"):
        parse_plan(f"{SMALL}\n{key}: 1\n")


def test_a_zero_before_a_number_of_a_plan_changes_nothing():
    plan = parse_plan(
        SMALL, overrides=["epochs=010", "batch_size=1_000", "losses.triplet.margin=01"]
    )
    assert (plan.epochs, plan.batch_size) == (10, 1000)
    assert plan.losses[0].title == "triplet(margin=1)"


def test_the_built_in_studies_of_the_related_papers_vary_what_they_ask_about():
    dose, small, samplers = map(load_plan, ("dose", "small-batch", "samplers"))
    settings = [loss.fixed for loss in dose.losses]
    assert {(of["penalty_weight"], of.get("threshold")) for of in settings} == {
        (0, None),
        *((weight, level) for weight in (0.1, 1) for level in (0.9, 0.7, 0.5)),
    }
    assert [(loss.name, loss.batch_size) for loss in small.losses] == [
        (name, size) for size in (16, 64, 256, 512) for name in ("info_nce", "nscl")
    ]
    assert {loss.sampler for loss in samplers.losses} == {
        *("random", "stratified", "m_per_class", "dirichlet")
    }
    assert [of.title for of in load_plan("few-labels").labels] == [
        *("2 per class", "5 per class", "10 per class", "20 per class", "50 per class", "all")
    ]


def test_the_built_in_studies_of_the_claims_can_test_them():
    claims, two = load_plan("claims"), load_plan("two-losses")
    assert [loss.name for loss in claims.losses] == list(LOSSES)
    assert claims.tune is not None
    assert claims.sensitivity == [0.5, 2.0]
    assert two.sampler == load_plan("author-conventions").sampler == "drawn"
    assert {loss.title for loss in two.losses} == {
        "contrastive(margin=1)",
        "triplet(margin=1, power=1)",
    }


def test_keys_that_say_nothing_about_queries_and_documents_are_named():
    text = "datasets: [wordnet]\nlosses: [mnrl]\nseeds: 1\nepochs: 2\nbatch_size: 8\nlearning_rate: 0.1"

    def hidden(*overrides: str) -> frozenset[str]:
        return without_effect(parse_plan(text, overrides=list(overrides)).model_dump())

    adapter = hidden("head=residual")
    assert {"hidden_size", "embedding_size", "momentum", "alpha", "labels", "split"} <= adapter
    assert {"selection_metric", "validation_share"} <= adapter
    assert not {"rank", "sides", "negatives", "head", "datasets", "seeds"} & adapter
    assert {"rank", "sides"} <= hidden("head=linear")
    assert not {"embedding_size", "momentum"} & hidden("optimizer=sgd")
    judged = hidden("selection=best-validation")
    assert not {"selection_metric", "validation_share"} & judged
    # every key that is not named can be written down again
    plan = parse_plan(text, overrides=["head=residual"])
    shown = {key: value for key, value in plan.model_dump().items() if key not in adapter}
    assert Plan.model_validate(shown) == plan
