import json
import math
import random
import sys

import pytest

from lossgauge.errors import InputError, MissingExtra, PlanError
from lossgauge.losses.registry import LOSSES, all_settings, settings_of
from lossgauge.plan.loss import LEARNING_RATE, Choices, LossPlan, Range
from lossgauge.plan.study import FIRST_TRIAL_SEED
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.results.reader import read_study
from lossgauge.study.engines import DEFAULT, Resources
from lossgauge.study.runner import run_study
from lossgauge.study.schedule.run_queue import RunQueue
from lossgauge.study.schedule.search import ROUND, Search, check_space, space
from tests.support.studies import Quiet, fake_features, vectors_plan, write_vectors

BASE = """
datasets: [fake]
backbone: pixels
losses: [triplet]
seeds: 2
epochs: 4
batch_size: 16
learning_rate: 0.001
tune: {trials: 12}
"""


def plan(*overrides):
    return parse_plan(BASE, overrides=overrides)


def search(*overrides, number=0):
    found = plan(*overrides)
    return Search(found, fake_features(), found.losses[number])


def taken(run):
    """All that a trial was run with, its learning rate among it."""
    return {**run.config.settings, LEARNING_RATE: run.config.learning_rate}


def hill(run):
    """Highest at a margin of 0.5 and a learning rate of 0.004."""
    at = taken(run)
    return -(math.log(at["margin"] / 0.5) ** 2) - math.log(at["learning_rate"] / 0.004) ** 2


def drive(of, objective, *, order=lambda runs: runs):
    """Do a search with an objective in the place of training, the trials of a round ending in some order."""
    while runs := of.next_round():
        for run in order(list(runs)):
            of.ended(run.name, objective(run))
    assert of.is_over
    return [run.name for run in of.asked]


# ---- the search by itself


@pytest.mark.parametrize("trials", [2, 5, 6, 12])
def test_a_search_asks_for_so_many_trials_in_rounds(trials):
    of = search(f"tune.trials={trials}")
    rounds = []
    while runs := of.next_round():
        assert of.next_round() == []
        assert not of.is_over
        rounds.append(len(runs))
        for run in runs:
            of.ended(run.name, hill(run))
    assert sum(rounds) == trials == len(of.asked)
    assert max(rounds) <= ROUND
    assert [run.extra_columns["trial"] for run in of.asked] == list(range(trials))
    assert {(run.seed, run.variant) for run in of.asked} == {(FIRST_TRIAL_SEED, "trial")}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_plan_searches_the_same_settings_in_whatever_order_trials_end(sampler):
    asked = [
        drive(search(f"tune.sampler={sampler}"), hill, order=order)
        for order in (
            lambda runs: runs,
            lambda runs: runs,
            lambda runs: runs[::-1],
            lambda runs: random.Random(3).sample(runs, len(runs)),
        )
    ]
    assert asked[0] == asked[1] == asked[2] == asked[3]
    assert len(set(asked[0])) == 12


def test_what_came_before_changes_what_is_tried_next_and_nothing_else_does():
    trials = "tune.trials=30"
    one = drive(search(trials), hill)
    assert drive(search(trials), lambda run: -hill(run)) != one
    assert drive(search(trials, "losses=[triplet, ccl]"), hill) == one
    assert drive(search(trials, "losses=[ccl, triplet]", number=1), hill) == one
    assert drive(search(trials, "seeds=[4, 5, 6]"), hill) == one
    found = plan(trials)
    other = Search(found, fake_features(dataset="other"), found.losses[0])
    assert [taken(run) for run in other.next_round()[1:]] != [
        taken(run) for run in search(trials).next_round()[1:]
    ]


def test_the_first_trial_is_the_loss_as_it_stands():
    for overrides, wanted in (
        ([], {}),
        (["losses.triplet.reduction=active"], {"reduction": "active"}),
        (["losses.triplet.margin=0.7"], {"margin": 0.7}),
        (["losses.triplet.learning_rate=0.05"], {"learning_rate": 0.05}),
        # outside of what is searched
        (["losses.triplet.margin={low: 0.5, high: 1}"], {}),
        (["losses.triplet.margin={choices: [0.5, 1]}"], {}),
        (["tune.learning_rate={low: 0.5, high: 1}"], {}),
    ):
        of = search(*overrides)
        first = of.next_round()[0]
        assert taken(first) == {
            **all_settings("triplet", {}),
            LEARNING_RATE: 0.001,
            **wanted,
        }
        assert first.extra_columns == {"trial": 0}
        for run in of.asked:
            of.ended(run.name, hill(run))
        drive(of, hill)
        assert of.row()["default_objective"] == hill(first)
        assert of.row()["objective"] >= hill(first)


def test_a_tuned_loss_is_never_worse_on_the_slice_than_the_loss_as_it_stands():
    of = search()
    drive(of, lambda run: 1.0 if run.extra_columns["trial"] == 0 else 0.5)
    assert of.best() is of.asked[0]
    assert of.row()["trial"] == 0


def test_the_settings_that_are_told_are_those_of_the_best_trial():
    of = search("losses=[{triplet: {reduction: active}}]")
    drive(of, hill)
    best = taken(of.best())
    assert best["margin"] != taken(of.asked[0])["margin"]
    rate, margin = best["learning_rate"], best["margin"]
    assert of.row()["settings"] == f"learning_rate={rate:.4g}, margin={margin:.4g}"


def test_of_equal_trials_the_earlier_is_taken():
    of = search()
    drive(of, lambda run: float(run.extra_columns["trial"] in (4, 7)))
    assert of.best().extra_columns == {"trial": 4}
    # objectives may well be negative
    of = search()
    drive(of, lambda run: -1.0 - run.extra_columns["trial"] % 5)
    assert of.best().extra_columns == {"trial": 0}


def test_what_is_fixed_is_never_searched():
    of = search(
        "losses=[{ccl: {margin: 0.3, learning_rate: 0.02, reduction: active}}]", "tune.trials=20"
    )
    drive(of, lambda run: taken(run)["scale"])
    moved = {
        key
        for run in of.asked
        for key, value in taken(run).items()
        if value != taken(of.asked[0])[key]
    }
    assert moved == {"scale", "center_weight"}
    assert {(taken(run)["margin"], taken(run)["learning_rate"]) for run in of.asked} == {
        (0.3, 0.02)
    }
    assert of.row()["loss"] == "ccl(margin=0.3, learning_rate=0.02, reduction=active, tuned)"


@pytest.mark.parametrize(
    ("searched", "holds"),
    [
        ("{low: 0.3, high: 0.4}", lambda value: 0.3 <= value <= 0.4),
        ("{low: 0.3, high: 0.4, log: true}", lambda value: 0.3 <= value <= 0.4),
        ("{choices: [0.3, 0.35, 0.4]}", lambda value: value in (0.3, 0.35, 0.4)),
        # four digits would round out of these
        ("{low: 0.123441, high: 0.123449}", lambda value: 0.123441 <= value <= 0.123449),
        ("{low: 1.0, high: 1.00004}", lambda value: 1.0 <= value <= 1.00004),
    ],
)
def test_a_search_stays_within_its_range(searched, holds):
    of = search(f"losses.triplet.margin={searched}", "tune.trials=15")
    drive(of, hill)
    values = [taken(run)["margin"] for run in of.asked[1:]]
    assert all(holds(value) for value in values)


def test_a_range_spreads_evenly_or_evenly_in_its_logarithm():
    for log, below in ((False, 0.09), (True, 0.5)):
        of = search(
            f"losses.triplet.margin={{low: 0.01, high: 1, log: {log}}}",
            "tune={trials: 200, sampler: random}",
        )
        drive(of, hill)
        share = sum(taken(run)["margin"] < 0.1 for run in of.asked[1:]) / 199
        assert share == pytest.approx(below, abs=0.17)  # 3.4 standard deviations of 99 draws


WHOLE = """
class Whole:
    def __init__(self, count: int = 3):
        pass
"""


def test_whole_numbers_spread_evenly_or_evenly_in_their_logarithm_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the seed of a search is made from the name, so the name stays
    (tmp_path / "own.py").write_text(WHOLE)
    # each whole number takes the range from half below it to half above it
    in_logarithm = math.log(31.5 / 0.5) / math.log(1000.5 / 0.5)
    for log, below in ((False, 0.031), (True, in_logarithm)):
        of = search(
            f"losses=[{{'own.py:Whole': {{count: {{low: 1, high: 1000, log: {log}}}}}}}]",
            "tune={trials: 100, sampler: random}",
        )
        drive(of, lambda run: 0.0)
        counts = [taken(run)["count"] for run in of.asked[1:]]
        assert {type(count) for count in counts} == {int}
        assert all(1 <= count <= 1000 for count in counts)
        share = sum(count <= 31 for count in counts) / 99
        assert share == pytest.approx(below, abs=0.17)  # 3.4 standard deviations of 99 draws


def test_choices_may_be_of_any_kind_and_are_all_tried():
    of = search("losses.triplet.margin={choices: [0.1, 0.2, 0.9]}", "tune.trials=20")
    drive(of, hill)
    assert {taken(run)["margin"] for run in of.asked} == {0.1, 0.2, 0.9}
    assert len(of.asked) == 20


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_choices_alone_may_run_out_and_the_budget_stays_the_same(sampler):
    of = search(
        "losses=[{triplet: {margin: {choices: [0.1, 0.2]}, learning_rate: 0.001}}]",
        f"tune.sampler={sampler}",
    )
    drive(of, hill)
    assert len(of.asked) == 12
    assert len({run.name for run in of.asked}) == 2


def test_tpe_finds_a_known_hill_better_than_chance():
    # both see the same first ten; seeded, so the numbers are the same each time
    reached = {}
    for sampler in ("tpe", "random"):
        bests = []
        for number in range(5):
            found = plan("tune.trials=50", f"tune.sampler={sampler}")
            of = Search(found, fake_features(dataset=f"fake {number}"), found.losses[0])
            drive(of, hill)
            bests.append(of.row()["objective"])
        reached[sampler] = sum(bests) / 5
    assert reached["tpe"] > -0.02  # a tenth of the way to the top in each setting
    assert reached["tpe"] > 0.4 * reached["random"] > reached["random"]


def test_trials_that_fail_count_and_are_told_so():
    of = search()
    asked = drive(of, lambda run: None if run.extra_columns["trial"] % 2 else hill(run))
    row = of.row()
    assert (row["trials"], row["failed"], row["error"]) == (12, 6, None)
    assert row["trial"] % 2 == 0
    # a failure is no objective of its own, but it is learned from that it says nothing
    assert drive(search(), hill)[:ROUND] == asked[:ROUND]


def test_a_failed_trial_is_no_number_for_the_sampler():
    of = search("tune.trials=10")
    drive(of, lambda run: None if run.extra_columns["trial"] in (0, 3, 4) else hill(run))
    of.next_round()  # what ended is told when the next round is asked for
    told = {trial.number: (trial.state.name, trial.value) for trial in of._study.trials}
    assert told == {
        run.extra_columns["trial"]: ("FAIL", None)
        if run.extra_columns["trial"] in (0, 3, 4)
        else ("COMPLETE", hill(run))
        for run in of.asked
    }


def test_where_all_trials_fail_there_is_nothing_to_choose():
    of = search()
    drive(of, lambda run: None)
    assert of.best() is None
    assert of.row() == {
        "dataset": "fake",
        "base": "triplet",
        "loss": "triplet(tuned)",
        "trial": None,
        "settings": "",
        "objective": None,
        "default_objective": None,
        "trials": 12,
        "failed": 12,
        "error": "all 12 trials failed",
    }


def test_an_objective_of_zero_is_one():
    of = search()
    drive(of, lambda run: 0.0 if run.extra_columns["trial"] == 3 else None)
    assert of.best().extra_columns == {"trial": 3}
    assert of.row()["objective"] == 0.0


# ---- what is searched


def test_every_loss_has_a_space_that_it_takes_and_that_holds_its_defaults():
    for name in LOSSES:
        found = plan(f"losses=[{name}]")
        check_space(found.losses[0], found)
        searched = space(found.losses[0], found)
        assert len(searched) > 1, name
        check_space(LossPlan(name=name, settings=searched), found)
        for key, known in settings_of(name).items():
            assert (key in searched) == (known.search is not None), (name, key)
            if key in searched:
                assert searched[key].low <= known.default <= searched[key].high, (name, key)


def test_the_space_of_a_loss_is_its_own_ranges_over_the_usual_ones_less_what_is_fixed():
    found = plan("losses=[{ccl: {margin: {low: 0.4, high: 0.5}, scale: 8}}]", "learning_rate=0.5")
    assert space(found.losses[0], found) == {
        "learning_rate": Range(low=0.05, high=5.0, log=True),
        "margin": Range(low=0.4, high=0.5),
        "center_weight": Range(low=0.01, high=10.0, log=True),
    }
    found = plan("tune.learning_rate={low: 0.1, high: 0.2}")
    assert space(found.losses[0], found)[LEARNING_RATE] == Range(low=0.1, high=0.2)
    found = plan("losses.triplet.learning_rate={choices: [0.1, 0.2]}")
    assert space(found.losses[0], found)[LEARNING_RATE] == Choices(choices=(0.1, 0.2))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        *(
            (
                f"{{arcface: {{{key}: {{choices: [a, b]}}}}}}",
                f"{key} of arcface cannot be tuned: {why}",
            )
            for key, why in (
                ("reduction", "it changes what is measured; give one value"),
                ("tolerance", "it changes what is measured; give one value"),
                ("class_count", "its value comes from the data; leave it out"),
                ("embedding_size", "its value comes from the data; leave it out"),
            )
        ),
        (
            "{triplet: {margn: {low: 0, high: 1}}}",
            r"no setting 'margn' to tune \(did you mean 'margin'",
        ),
        (
            "{triplet: {margin: {low: -0.1, high: 1}}}",
            "the range of margin of triplet includes -0.1, which is not valid: margin of the loss",
        ),
        (
            "{arcface: {margin: {low: 0, high: 4}}}",
            "the range of margin of arcface includes 4.0, which is not valid: .*radians",
        ),
        ("{scl: {temperature: {low: 0, high: 1}}}", "the range of temperature of scl includes 0.0"),
        (
            "{ccl: {scale: {choices: [1, warm]}}}",
            "the range of scale of ccl includes warm, which is not valid: scale of the loss",
        ),
        ("{triplet: {margin: 0.1, learning_rate: 0.1}}", "has no setting left to tune"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused_before_anything_is_written(
    tmp_path, quiet, loss, message
):
    found = plan(f"losses=[{loss}]")
    with pytest.raises(PlanError, match=message):
        check_space(found.losses[0], found)
    found = vectors_plan(write_vectors(tmp_path / "v.npz"), f"losses=[{loss}]", "tune.trials=2")
    with pytest.raises((PlanError, InputError)):
        run_study(found, tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_without_optuna_tuning_says_how_to_get_it_and_writes_nothing(tmp_path, quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    vectors = write_vectors(tmp_path / "v.npz")
    with pytest.raises(MissingExtra, match=r"tune needs Optuna: pip install 'lossgauge\[tune\]'"):
        run_study(vectors_plan(vectors, "tune.trials=2"), tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()
    # nothing else needs it
    run_study(vectors_plan(vectors, "epochs=1"), tmp_path / "out", progress=quiet)


# ---- two searches that meet


def test_a_trial_that_two_losses_share_ends_for_both():
    """The second search comes to a run of the first in a later round, when that has ended long since."""
    found = plan(
        "losses=[{triplet: {margin: 0.9, learning_rate: {choices: [0.001, 0.5]}}}, "
        "{triplet: {reduction: mean, margin: {choices: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}, "
        "learning_rate: 0.001}}]",
        "tune.trials=40",
    )
    ledger = RunQueue(found, [fake_features()])
    done = set()
    # as the runner does: a run is done once, and its end told once
    while runs := ledger.next_runs():
        for run in runs:
            if run.name not in done:
                done.add(run.name)
                ledger.ended(run.name, {"map_at_r": hill(run) if run.variant == "trial" else 0})
    one, two = ledger.searches
    assert {run.name for run in one.asked} & {run.name for run in two.asked}
    assert (len(one.asked), len(two.asked)) == (40, 40)
    assert len([run for run in ledger.runs if run.variant == "tuned"]) == 4
    assert len(ledger.runs) == ledger.expected


# ---- real studies


def tuned_study(tmp_path, name, *overrides, vectors=None, resources=DEFAULT):
    vectors = vectors or write_vectors(tmp_path / "vectors.npz")
    watcher = Quiet()
    outcome = run_study(
        vectors_plan(vectors, "tune={trials: 6, epochs: 2}", *overrides),
        tmp_path / name,
        progress=watcher,
        resources=resources,
    )
    return outcome, read_study(tmp_path / name).results, watcher


def test_every_loss_gets_the_same_number_of_trials_of_the_same_length(tmp_path):
    outcome, found, watcher = tuned_study(tmp_path, "out", "losses=triplet,ccl,scl", "seeds=2")
    assert (outcome.done, outcome.failed) == (2 * 4 + 3 * 6 + 3 * 2, 0)
    assert watcher.total == outcome.done
    for base in ("triplet", "ccl", "scl"):
        trials = [row for row in found.trials if row["base"] == base]
        assert sorted(row["trial"] for row in trials) == list(range(6))
        assert {(row["epochs"], row["seed"]) for row in trials} == {(2, FIRST_TRIAL_SEED)}
        chosen = max(trials, key=lambda row: (row["objective"], -row["trial"]))
        (row,) = [row for row in found.tuned if row["base"] == base]
        assert (row["trial"], row["objective"]) == (chosen["trial"], chosen["objective"])
        assert row["default_objective"] == next(t["objective"] for t in trials if t["trial"] == 0)
        tuned = [
            row for row in found.summaries if row["base"] == base and row["variant"] == "tuned"
        ]
        assert [(row["loss"], row["seed"], row["epochs"]) for row in tuned] == [
            (f"{base}(tuned)", 0, 3),
            (f"{base}(tuned)", 1, 3),
        ]
        for key in (name for name in chosen if name.startswith("setting_")):
            assert {row[key] for row in tuned} == {chosen[key]}


def test_garbage_on_the_test_side_changes_no_trial_and_no_choice(tmp_path):
    (tmp_path / "bad").mkdir()
    clean = write_vectors(tmp_path / "vectors.npz")
    poisoned = write_vectors(tmp_path / "bad" / "vectors.npz", poison=True)
    _, good, _ = tuned_study(tmp_path, "good", vectors=clean)
    _, bad, _ = tuned_study(tmp_path, "worse", vectors=poisoned)

    def without_names(rows):
        timing = (
            "run",
            "fingerprint",
            "seconds",
            "step_milliseconds",
            "probe_milliseconds",
            "probe_share",
        )
        return [{k: v for k, v in row.items() if k not in timing} for row in rows]

    assert without_names(good.trials) == without_names(bad.trials)
    assert good.tuned == bad.tuned
    for before, after in zip(good.summaries, bad.summaries, strict=True):
        assert before["train_intra"] == after["train_intra"]
        assert before["map_at_r"] > 1.5 * after["map_at_r"]
    # and what is measured of a trial is called so
    assert not {"map_at_r", "test_intra", "recall_at_1"} & good.trials[0].keys()


FRAGILE = """
import torch
class Fragile(torch.nn.Module):
    def __init__(self, *, strength: float = 1.0):
        super().__init__()
        self.strength = strength
    def forward(self, z, y):
        if {condition}:
            raise RuntimeError("too strong")
        return -self.strength * ((y[:, None] == y) * (z @ z.T)).mean()
"""


def test_trials_that_fail_are_kept_as_failed_and_the_best_of_the_others_is_chosen(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(FRAGILE.format(condition="self.strength > 2"))
    outcome, found, _ = tuned_study(
        tmp_path, "out", f"losses=[{{'{file}:Fragile': {{strength: {{low: 0.1, high: 5}}}}}}]"
    )
    failed = [row for row in found.trials if row["objective"] is None]
    (row,) = found.tuned
    assert 0 < len(failed) < 6
    assert row["failed"] == len(failed) == outcome.failed
    assert {trial["error"] for trial in failed} == {"RuntimeError: too strong"}
    assert found.failures == []
    (tuned,) = [row for row in found.summaries if row["variant"] == "tuned"]
    assert tuned["setting_strength"] <= 2


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_waits_for_a_trial_that_failed_by_no_fault_of_its_own(tmp_path, jobs):
    file, full = tmp_path / "own.py", tmp_path / "full"
    full.touch()
    file.write_text(
        FRAGILE.format(
            condition=f"self.strength > 2 and __import__('pathlib').Path('{full}').exists()"
        ).replace("RuntimeError(", "OSError(28, ")
    )
    losses = f"losses=[{{'{file}:Fragile': {{strength: {{low: 0.1, high: 5}}}}}}, triplet]"
    resources = Resources(jobs=jobs)
    outcome, found, _ = tuned_study(tmp_path, "out", losses, resources=resources)
    assert outcome.failed > 0
    assert [row["base"] for row in found.tuned] == ["triplet"]
    assert len([row for row in found.trials if row["base"] != "triplet"]) == ROUND
    full.unlink()
    _, again, _ = tuned_study(tmp_path, "out", losses, resources=Resources("in-process"))
    _, whole, _ = tuned_study(tmp_path, "whole", losses, resources=Resources("in-process"))
    assert again.tuned == whole.tuned
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir()} == {
        path.name for path in (tmp_path / "whole" / "runs").iterdir()
    }


def test_where_all_trials_of_a_loss_fail_it_has_no_tuned_runs_and_the_study_goes_on(tmp_path):
    file = tmp_path / "own.py"
    # a trial trains on fewer rows and so has smaller batches than the loss as it stands
    file.write_text(FRAGILE.format(condition="len(y) < 170"))
    outcome, found, watcher = tuned_study(
        tmp_path, "out", f"losses=['{file}:Fragile', triplet]", "batch_size=1000", "seeds=2"
    )
    assert outcome.failed == 6
    first, second = found.tuned
    assert (first["error"], first["trial"], first["settings"]) == ("all 6 trials failed", None, "")
    assert second["error"] is None
    assert [
        (row["base"], row["variant"]) for row in found.summaries if row["variant"] == "tuned"
    ] == [("triplet", "tuned")] * 2
    assert len([row for row in found.summaries if row["loss"].endswith("Fragile")]) == 2
    assert watcher.total == outcome.done + outcome.failed


def test_a_search_whose_last_trial_fails_last_of_all_is_in_the_study(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(FRAGILE.format(condition="len(y) < 170"))
    outcome, found, watcher = tuned_study(
        tmp_path, "out", f"losses=['{file}:Fragile']", "batch_size=1000", "tune.trials=2"
    )
    (row,) = found.tuned
    assert row["error"] == "all 2 trials failed"
    assert found.expected == watcher.total == outcome.done + outcome.failed == 4


def test_a_black_box_without_settings_is_tuned_by_its_learning_rate_alone(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def pull(z, y):\n    return -((y[:, None] == y) * (z @ z.T)).mean()\n")
    outcome, found, _ = tuned_study(tmp_path, "out", f"losses=['{file}:pull']")
    assert outcome.failed == 0
    assert len({row["setting_learning_rate"] for row in found.trials}) == 6
    (row,) = found.tuned
    assert row["settings"].startswith("learning_rate=")
    assert "," not in row["settings"]


def test_a_tuned_study_is_the_same_again_and_reuses_all_when_it_is_asked_for_again(tmp_path):
    vectors = write_vectors(tmp_path / "vectors.npz")
    _, one, _ = tuned_study(tmp_path, "one", vectors=vectors)
    again, same, _ = tuned_study(tmp_path, "one", vectors=vectors)
    assert (again.done, again.reused) == (0, 2 + 6 + 1)
    _, two, _ = tuned_study(tmp_path, "two", vectors=vectors)
    assert [row["run"] for row in one.trials] == [row["run"] for row in two.trials]
    assert one.tuned == two.tuned == same.tuned
    assert [row["run"] for row in one.summaries] == [row["run"] for row in two.summaries]
    study = json.loads((tmp_path / "one" / "study.json").read_text())
    assert study["expected"] == 9
