import json
import math

import pytest

from lossgauge.data.features import centered
from lossgauge.errors import PlanError
from lossgauge.losses.registry import all_settings, settings_of
from lossgauge.losses.triplet import Triplet
from lossgauge.plan.loss import UNTRAINED, LossPlan
from lossgauge.plan.study import FIRST_TRIAL_SEED
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.study.run.setup import as_measured
from lossgauge.study.schedule import run_config
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.study.schedule.runs import (
    Run,
    check_distinct,
    plan_runs,
    variants,
)
from tests.support.studies import fake_features

BASE = """
datasets: [fake]
backbone: pixels
losses: [triplet, ccl]
seeds: 2
epochs: 4
batch_size: 16
learning_rate: 0.001
"""


def plan(*overrides):
    return parse_plan(BASE, overrides=overrides)


def name_of(*overrides, loss=None, seed=0, features=None):
    """The name of the run of a plan's first loss, or of another."""
    found = plan(*overrides)
    of = features if features is not None else fake_features()
    if loss is not None and loss.name == UNTRAINED:
        return Run.untrained(found, of, seed).name
    return Run.default(found, of, loss or found.losses[0].at({}), seed).name


def trial_of(found, features, number=0, loss=None):
    of = loss or found.losses[0]
    return Run.trial(found, features, of.at({}), number, of=of)


MATTERS = [
    ["epochs=5"],
    ["batch_size=8"],
    ["learning_rate=0.002"],
    ["losses.triplet.margin=0.3"],
    ["losses.triplet.power=1"],
    ["losses.triplet.tolerance=0.1"],
    ["losses.triplet.reduction=active"],
    ["losses.triplet.learning_rate=0.003"],
    ["losses=ccl"],
    ["sampler=stratified"],
    ["sampler=stratified_kmeans"],
    ["sampler=m_per_class"],
    ["sampler=drawn"],
    ["sampler=m_per_class", "samples_per_class=8"],
    ["head=mlp"],
    ["head=mlp", "hidden_size=7"],
    ["embedding_size=64"],
    ["optimizer=adamw"],
    ["optimizer=sgd"],
    ["optimizer=sgd", "momentum=0.5"],
    ["weight_decay=0.1"],
    ["schedule=cosine"],
    ["warmup_epochs=1"],
    ["retrieval_every=2"],
    ["selection=oracle"],
    ["selection=oracle", "selection_metric=recall_at_1"],
    ["selection=best-validation"],
    ["selection=best-validation", "selection_metric=recall_at_1"],
    ["selection=best-validation", "validation_share=0.3"],
]


def test_every_setting_that_matters_makes_another_run():
    names = [name_of(), *(name_of(*overrides) for overrides in MATTERS)]
    doubles = [
        overrides
        for overrides, name in zip([[], *MATTERS], names, strict=True)
        if names.count(name) > 1
    ]
    assert doubles == []


def test_seed_and_data_make_another_run():
    found = fake_features()
    others = [
        name_of(seed=1),
        name_of(features=found._replace(fingerprint="2" * 64)),
        name_of(features=found._replace(dataset="other")),
        name_of(features=found._replace(backbone="other")),
        name_of(features=found._replace(identity={"file": "2" * 64})),
        name_of(features=found._replace(protocol="class-disjoint")),
        name_of(features=centered(found)),
        trial_of(plan(), found).name,
    ]
    assert len({name_of(), *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "overrides",
    [
        ["question=Another one?"],
        ["losses=[scl, triplet]", "losses.scl.temperature=0.3"],
        ["seeds=[7, 0]"],
        ["datasets=fake,digits"],
        ["tune={trials: 3, epochs: 2}", "validation_share=0.4", "selection_metric=recall_at_1"],
        ["sensitivity=0.5"],
        # the default, written down
        ["losses.triplet.margin=0.2"],
        ["losses.triplet.learning_rate=0.001"],
        ["losses.triplet.margin={low: 0.1, high: 1}", "tune.trials=3"],
    ],
)
def test_what_a_run_does_not_depend_on_leaves_it_the_same(overrides):
    found = plan(*overrides)
    (triplet,) = [loss for loss in found.losses if loss.name == "triplet"]
    assert Run.default(found, fake_features(), triplet.at({}), 0).name == name_of()


def test_a_changed_default_never_reuses_an_old_result(monkeypatch):
    before = name_of()
    written = name_of("losses.triplet.margin=0.2")

    margin = Triplet.settings["margin"]
    assert margin.default == 0.2
    changed = {**Triplet.settings, "margin": margin._replace(default=0.25)}
    monkeypatch.setattr(Triplet, "settings", changed)
    assert name_of() != before
    assert name_of("losses.triplet.margin=0.2") == written


def test_another_schema_or_version_never_reuses_an_old_result(monkeypatch):
    before = name_of()
    with monkeypatch.context() as patch:
        patch.setattr(run_config, "FORMAT", run_config.FORMAT + 1)
        assert name_of() != before
        patch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(run_config, "version", lambda _: "99")
        assert name_of() != before
        patch.undo()
    assert name_of() == before


def test_a_loss_of_ones_own_is_named_by_what_is_in_its_file(tmp_path):
    file = tmp_path / "own.py"
    text = "def pull(z, y):\n    return (z ** {power}).sum()\n"
    names = []
    for power in (2, 3, 2):
        file.write_text(text.format(power=power))
        names.append(name_of(loss=LossPlan(name=f"{file}:pull")))
    assert names[0] == names[2] != names[1]
    assert names[0].startswith("fake_own.py-pull_0_")


NUMBERS = """
class Numbers:
    def __init__(self, said: float, shown=0.5, count: int = 3, bare=3):
        pass
"""


def test_1_and_1_0_are_one_setting_where_the_loss_takes_a_number(tmp_path):
    assert name_of("losses.triplet.margin=1") == name_of("losses.triplet.margin=1.0")
    assert name_of("losses.triplet.margin=1") != name_of("losses.triplet.margin=2")
    # a loss of one's own says it by its annotation, or by its default
    (tmp_path / "own.py").write_text(NUMBERS)
    own = f"{tmp_path / 'own.py'}:Numbers"
    given = {"said": 1, "shown": 2, "count": 4, "bare": 5}
    settings = all_settings(own, given)
    assert settings == given
    assert [type(settings[key]) for key in given] == [float, float, int, int]
    doubled = plan("losses=[{triplet: {margin: 1}}, {triplet: {margin: 1.0}}]")
    with pytest.raises(
        PlanError, match="are the same loss with the same settings; keep one of them"
    ):
        check_distinct(plan_runs(doubled, fake_features()))


def test_the_name_of_a_run_is_short_enough_for_a_disk_and_ends_with_what_tells_it_apart():
    long = [
        Run.default(plan(), fake_features(dataset="d" * 400 + last), LossPlan(name="scl"), 12)
        for last in "ab"
    ]
    assert len({run.name for run in long}) == 2
    for run in long:
        assert len(run.name) <= 140
        assert "_scl_12_" in run.name


def test_the_baseline_is_one_run_whatever_the_training_is():
    baseline = LossPlan(name=UNTRAINED)
    here = name_of(loss=baseline)
    training = [
        overrides
        for overrides in MATTERS
        if not overrides[0].startswith(("head", "embedding_size"))
    ]
    assert {name_of(*overrides, loss=baseline) for overrides in training} == {here}
    others = (["embedding_size=64"], ["head=mlp"], ["head=mlp", "hidden_size=7"])
    assert len({here, *(name_of(*o, loss=baseline) for o in others)}) == 4
    assert name_of(loss=baseline, seed=1) != here


def test_a_run_is_the_same_after_json():
    found = plan("sensitivity=0.5", "losses.triplet.reduction=active", "tune.trials=2")
    runs = plan_runs(found, fake_features())
    runs.append(trial_of(found, fake_features(), 1))
    best = found.losses[0].at({"margin": 0.5})
    runs.append(Run.tuned(found, fake_features(), best, 0, of=found.losses[0]))
    for run in runs:
        again = Run.from_json(json.loads(json.dumps(run.as_json())))
        assert again == run
        assert isinstance(again.loss, LossPlan)
        assert isinstance(again.config, RunConfig)
        assert (again.columns, again.name) == (run.columns, run.name)


def test_a_plan_asks_for_every_loss_and_the_baseline_with_every_seed():
    runs = plan_runs(plan("seeds=[3, 9]"), fake_features())
    assert [(run.title, run.seed, run.variant) for run in runs] == [
        (loss, seed, "default") for loss in ("untrained", "triplet", "ccl") for seed in (3, 9)
    ]
    assert len({run.name for run in runs}) == 6


def test_sensitivity_moves_one_setting_at_a_time():
    found = plan("sensitivity=[0.5, 3]", "losses=[ccl, n_pair, {triplet: {margin: 0}}]", "seeds=1")
    moved = [run for run in plan_runs(found, fake_features()) if run.variant == "sensitivity"]
    assert [(run.base, run.title, run.extra_columns) for run in moved] == [
        ("ccl", "ccl(margin=0.1)", {"setting": "margin", "factor": 0.5}),
        ("ccl", "ccl(margin=0.6)", {"setting": "margin", "factor": 3.0}),
        ("ccl", "ccl(scale=16.0)", {"setting": "scale", "factor": 0.5}),
        ("ccl", "ccl(scale=96.0)", {"setting": "scale", "factor": 3.0}),
        ("n_pair", found_title("n_pair", 0.5), {"setting": "temperature", "factor": 0.5}),
        ("n_pair", found_title("n_pair", 3), {"setting": "temperature", "factor": 3.0}),
    ]
    defaults = all_settings("ccl", {})
    for run in moved[:4]:
        changed = {k for k, v in run.config.settings.items() if v != defaults[k]}
        assert changed == {run.extra_columns["setting"]}


def found_title(name, factor):
    value = settings_of(name)["temperature"].default * factor
    return f"{name}(temperature={value:.12g}{'' if '.' in f'{value:.12g}' else '.0'})"


OWN = """
import math
class Own:
    def __init__(self, *, margin="auto", scale=True, temperature=math.inf, other=None):
        pass
"""


def test_a_multiple_that_is_no_number_is_refused():
    found = plan("losses.triplet.margin=1e200", "sensitivity=[1e200]")
    with pytest.raises(
        PlanError, match=r"1e\+200 × 1e\+200 for margin of triplet\(margin=1e\+200\) is not finite"
    ):
        list(variants(found.losses[0].at({}), found.sensitivity))


def test_a_loss_of_ones_own_may_have_settings_that_are_no_numbers(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    loss = LossPlan(name=f"{tmp_path / 'own.py'}:Own")
    # what a run's config holds must be JSON
    assert all_settings(loss.name, {}) == {"margin": "auto", "scale": True, "temperature": "inf"}
    assert [more["setting"] for _, more in variants(loss, [0.5])] == []
    assert math.isinf(settings_of(loss.name)["temperature"].default)


def test_a_trial_trains_and_is_measured_on_the_training_side_alone():
    found, features = plan("tune={trials: 2, epochs: 3}"), fake_features(12, disjoint=True)
    run = trial_of(found, features)
    assert (run.seed, run.config.epochs, run.config.measured_on) == (
        FIRST_TRIAL_SEED,
        3,
        "validation",
    )
    of = as_measured(features, run.config)
    assert sorted([*of.train.tolist(), *of.test.tolist()]) == features.train.tolist()
    assert not set(features.labels[of.train].tolist()) & set(features.labels[of.test].tolist())
    assert of.validation is None


def test_the_best_epoch_on_validation_is_picked_with_rows_that_do_not_train():
    features = fake_features()
    run = Run.default(plan("selection=best-validation"), features, LossPlan(name="triplet"), 0)
    of = as_measured(features, run.config)
    assert sorted([*of.train.tolist(), *of.validation.tolist()]) == features.train.tolist()
    assert of.test.tolist() == features.test.tolist()
    plain = Run.default(plan(), features, LossPlan(name="triplet"), 0)
    assert as_measured(features, plain.config) is features


def test_the_slice_is_the_same_for_every_loss_and_seed():
    found, features = plan("tune.trials=2", "seeds=[0, 5]"), fake_features()
    trials = [trial_of(found, features, loss=loss) for loss in found.losses]
    slices = {tuple(as_measured(features, run.config).test.tolist()) for run in trials}
    picked = plan("selection=best-validation", "seeds=[0, 5]")
    slices |= {
        tuple(as_measured(features, run.config).validation.tolist())
        for run in plan_runs(picked, features)
        if run.config.is_trained
    }
    assert len(slices) == 1


@pytest.mark.parametrize(
    ("selection", "of_trial"),
    [("last", "last"), ("oracle", "last"), ("best-validation", "best-validation")],
)
def test_a_trial_never_picks_its_epoch_as_an_oracle(selection, of_trial):
    found = plan(f"selection={selection}", "tune.trials=2", "retrieval_every=2")
    run = trial_of(found, fake_features())
    assert run.config.selection == of_trial
    assert run.config.retrieval_every == (4 if of_trial == "last" else 2)


def test_the_columns_and_epochs_that_a_run_is_measured_by_follow_from_its_config():
    def of(*overrides, trial=False):
        found = plan("retrieval_every=3", *overrides)
        loss = found.losses[0].at({})
        run = trial_of(found, fake_features()) if trial else None
        return run.config if run else RunConfig.trained(found, fake_features(), loss, 0)

    assert of().selects_by is None
    assert of("selection=oracle").selects_by == "map_at_r"
    best = ("selection=best-validation", "selection_metric=recall_at_1", "tune.trials=2")
    assert of(*best).selects_by == "validation_recall_at_1"
    assert of(*best, trial=True).selects_by == "recall_at_1"  # its test side is the slice
    assert of("selection=oracle", "tune.trials=2", trial=True).selects_by is None
    for config, retrieval, geometry in (
        (of(), [0, 3, 4], range(5)),
        (of("tune.trials=2", trial=True), [0, 4], [0, 4]),
        (of(*best, trial=True), [0, 3, 4], [0, 3, 4]),
    ):
        assert [at for at in range(5) if config.measures_retrieval(at)] == list(retrieval)
        assert [at for at in range(5) if config.measures_geometry(at)] == list(geometry)
    baseline = RunConfig.untrained(plan(), fake_features(), 0)
    assert (baseline.epochs, baseline.selects_by) == (0, None)
    assert baseline.measures_retrieval(0)


def test_a_tuned_loss_is_titled_by_what_the_plan_fixes_and_belongs_to_it():
    found = plan(
        "losses=[{triplet: {reduction: active, margin: {low: 0.1, high: 1}}}, ccl]", "tune.trials=2"
    )
    for loss, title in zip(
        found.losses, ("triplet(reduction=active, tuned)", "ccl(tuned)"), strict=True
    ):
        run = Run.tuned(found, fake_features(), loss.at({"margin": 0.4}), 0, of=loss)
        assert (run.title, run.base, run.variant) == (title, loss.title, "tuned")


def test_a_loss_with_its_own_batches_is_another_run_with_those_batches():
    loss = LossPlan(name="triplet", settings={"batch_size": 8, "sampler": "m_per_class"})
    config = RunConfig.trained(plan(), fake_features(), loss, 0)
    assert (config.batch_size, config.sampler, config.samples_per_class) == (8, "m_per_class", 4)
    assert config.settings == all_settings("triplet", {})
    assert name_of(loss=loss) != name_of()
    trial = RunConfig.trial(plan(), fake_features(), loss)
    assert (trial.batch_size, trial.sampler) == (8, "m_per_class")
    # what the plan says anyway makes no other run
    assert name_of(loss=LossPlan(name="triplet", settings={"batch_size": 16})) == name_of()
