"""The sentences say what was measured, how sure it is, and when it cannot be told; on planted finalists."""

import re

import pytest
import torch

from lossgauge.advice.candidates import Batching
from lossgauge.advice.halving import Score
from lossgauge.advice.phases import curve_from
from lossgauge.advice.preparation import Prepared
from lossgauge.advice.question import Fit, Question, base_plan
from lossgauge.advice.schedule import Schedule
from lossgauge.advice.verdict import other_goals, training, verdict
from lossgauge.advice.words import Outcome, _doubt, _steps, sentences, settings_in_words
from lossgauge.plan.loss import LossPlan
from lossgauge.stats.decisions import ONE_SEED, decide
from tests.support.planted_finals import DATASET, finals
from tests.support.studies import fake_features

CLEAR = {
    "triplet": [0.70, 0.71, 0.705],
    "scl": [0.60, 0.612, 0.604],
    "ccl": [0.50, 0.51, 0.507],
}
CLOSE = {**CLEAR, "triplet": [0.61, 0.60, 0.62]}
CURVES = {"triplet": [0.3, 0.5, 0.7], "scl": [0.3, 0.68, 0.69], "ccl": [0.3, 0.5, 0.5]}


def told(
    levels=CLEAR,
    *,
    goal="ranking",
    frozen=0.5,
    rows=40,
    curve=None,
    complete=True,
    curves=CURVES,
    sample=None,
    notes=(),
    view=None,
):
    """Topic → sentence."""
    view = view or finals(levels, frozen=frozen, curves=curves)
    question = Question("planted", goal)
    plan = base_plan(
        question._replace(data="digits"),
        epochs=3,
        fit=Fit(),
        losses=[LossPlan(name=name) for name in levels],
        sample=sample,
    )
    features = fake_features(rows=40)._replace(notes=notes)
    outcome = Outcome(
        question=question,
        prepared=Prepared(
            features,
            plan,
            [Batching("random", 32)],
            Schedule(6, (1, 3), 2.0),
            max(rows, len(features.labels)),
            [],
            0.0,
        ),
        plan=plan,
        verdict=verdict(view, DATASET, goal),
        training=training(view, DATASET, verdict(view, DATASET, goal).best, question.metric),
        others=other_goals(view, DATASET, goal),
        standing=[Score(0, "triplet", 0.7), Score(1, "scl", 0.6)],
        curve=curve,
        trials=20,
        seeds=len(next(iter(levels.values()))),
        queries=20,
        complete=complete,
    )
    return {of.topic: of.text.replace("\u00a0", " ") for of in sentences(outcome)}


def test_a_clear_winner_is_named_with_its_interval_and_its_runner_up():
    words = told()
    assert words["Train?"].startswith("Yes. MAP@R is 50.0 % with the frozen features and 70.5 %")
    assert "take triplet" in words["Loss"]
    assert words["Loss"].endswith("clearly better than scl and ccl.")
    assert words["Runner-up"].startswith("scl:")
    assert "−10.0 ±" in words["Runner-up"]
    assert "triplet is first, clearly" in words["Rule of thumb"]
    assert "triplet is first by" not in words["What would change this"]  # by speed it is scl
    assert "it is scl" in words["What would change this"]


def test_another_goal_is_judged_among_these_finalists_only():
    some = told()["What would change this"]
    assert "Among these finalists, for the fewest epochs" in some
    fast = {**dict.fromkeys(CLEAR, CURVES["ccl"]), "triplet": CURVES["triplet"]}
    same = told(curves=fast)["What would change this"]
    assert "Among these finalists, the goal top1 would give triplet, too." in same
    for words in (some, same):
        assert "They were chosen for this goal" in words
        assert "nother goal:" not in words


def test_what_cannot_be_told_is_said_and_what_would_tell():
    words = told(CLOSE)
    assert "cannot be told" in words["Loss"]
    assert "seeds" in words["What would change this"]
    assert "clearly" not in words["Rule of thumb"].replace("though not clearly", "")


def test_one_seed_is_not_enough():
    words = told({loss: values[:1] for loss, values in CLEAR.items()})
    assert "One seed shows no spread" in words["Loss"]
    assert "cannot be told from 1 seed" in words["Train?"]
    assert "More minutes" in words["What would change this"]


def test_better_frozen_features_are_kept():
    words = told(frozen=0.9)
    assert words["Train?"].startswith("No, keep the frozen features")
    assert words["Loss"].startswith("If you train all the same")


def test_an_open_question_of_training_is_open():
    assert told(frozen=0.7052)["Train?"].startswith("It cannot be told from 3 seeds")


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("top1", "R@1 80.5 %"),
        ("diversity", "intra 0.200"),
        ("speed", "epochs (3 seeds; ± over new seeds)"),
    ],
)
def test_each_goal_has_its_own_quantity(goal, words):
    assert words in told(goal=goal)["Loss"]


def test_the_untrained_head_and_what_each_interval_is_over_are_said():
    words = told({loss: values[:2] for loss, values in CLEAR.items()})["Train?"]
    assert "with triplet (± over new seeds" in words
    assert "approximate: two seeds" in words
    assert "The untrained head has 30.0 %, clearly worse than triplet." in told()["Train?"]
    lower = {loss: [value - 0.5 for value in values] for loss, values in CLEAR.items()}
    assert "The untrained head has 30.0 %, clearly better than triplet." in told(lower)["Train?"]


def test_speed_is_not_compared_where_the_untrained_head_is_fast_enough():
    there = {loss: [0.69, 0.69, 0.7] for loss in CLEAR}
    words = told(goal="speed", curves=there)
    assert "speed cannot be compared" in words["Loss"]
    assert "By MAP@R, take triplet" in words["Loss"]
    assert "Runner-up" not in words
    assert "epochs" not in words["What would change this"]
    assert "speed" not in told(curves=there)["What would change this"]
    assert "fewest epochs" not in told(curves=there)["What would change this"]


def test_an_interval_without_0_that_is_not_clear_names_the_correction():
    near = {
        "triplet": [0.60, 0.60, 0.60],
        "scl": [0.590, 0.586, 0.580],
        "ccl": [0.590, 0.587, 0.580],
        "n_pair": [0.590, 0.585, 0.580],
    }
    words = told(near)
    assert "not clear after the correction for 3 comparisons" in words["Runner-up"]
    assert "after the correction" not in told()["Runner-up"]


def test_a_comparison_with_nothing_is_none():
    words = told({"triplet": CLEAR["triplet"]})
    assert "There is no comparison: no other loss was run with seeds" in words["Loss"]
    assert "Runner-up" not in words


def test_a_sample_and_a_stop_are_stated():
    words = told(rows=5_000, sample=40, complete=False)
    assert "sample of" in words["What was tried"]
    assert "5,000 rows" in words["What was tried"]
    assert "the answer so far" in words["What was tried"]
    assert "All 5,000 rows instead of a sample" in words["What would change this"]


def test_an_image_that_cannot_be_read_is_named_and_is_no_sample():
    note = "left out because they cannot be read (1 of 5,000): c1/3.png"
    words = told(rows=5_000, notes=(note, "something else"))
    assert "Left out because they cannot be read (1 of 5,000): c1/3.png." in words["What was tried"]
    assert "something else" not in words["What was tried"]
    assert "sample" not in words["What was tried"]
    assert "sample" not in words["What would change this"]


def curve(*means):
    values = [
        {seed: mean + 0.001 * (n + 1) * (seed - 1) for seed in range(3)}
        for n, mean in enumerate(means)
    ]
    return curve_from(values, [25, 50, 100], by_classes=False)


def test_the_learning_curve_says_what_a_doubling_gains_or_that_it_does_not():
    rising = told(curve=curve(0.5, 0.6, 0.65))["More labelled data"]
    assert "the last doubling gained +5.0" in rising
    assert "one more may gain about 2.5" in rising
    falling = told(curve=curve(0.7, 0.65, 0.6))["More labelled data"]
    assert "does not help" in falling
    flat = told(curve=curve(0.6, 0.6, 0.6001))["More labelled data"]
    assert "cannot be told" in flat
    assert told()["More labelled data"].startswith("Not measured")


def test_a_part_that_cannot_be_measured_has_the_true_reason():
    points = [
        {},
        *(
            {seed: mean + step * seed for seed in range(3)}
            for mean, step in ((0.6, 0.001), (0.65, 0.002))
        ),
    ]
    why = "a quarter: planted has too little data"
    some = curve_from(points, [25, 50, 100], by_classes=False, missing=why)
    words = told(curve=some)["More labelled data"]
    assert words.startswith("With a half and all of the training rows of each class")
    assert "the last doubling" in words
    assert words.endswith("Not measured with a quarter: planted has too little data.")
    none = curve_from([{}, {}, points[-1]], [25, 50, 100], by_classes=False, missing=why)
    assert told(curve=none)["More labelled data"] == f"Not measured with {why}."


def test_settings_are_said_in_words():
    plan = LossPlan(
        name="triplet",
        settings={"margin": 0.1, "learning_rate": 0.01, "batch_size": 32, "sampler": "random"},
    )
    assert (
        settings_in_words(plan.settings, 4)
        == "margin 0.1, learning rate 0.01, batches of 32 (random)"
    )
    classes = {**plan.settings, "sampler": "m_per_class"}
    assert settings_in_words(classes, 2).endswith("batches of 32 (m_per_class, 2 of each)")


def test_with_two_rows_of_a_class_the_steps_are_those_of_r_at_1():
    labels = torch.arange(8).repeat(2)
    words = _steps(labels, "map_at_r")
    assert words == "with two rows of a class, its MAP@R is R@1 and moves in steps of 6.2 points"
    more = _steps(torch.arange(8).repeat(3), "map_at_r")
    assert more == "one row moves its MAP@R by up to 4.2 points"
    assert _steps(labels, "recall_at_1") == "its R@1 moves in steps of 6.2 points"


def test_epochs_have_one_digit():
    words = told(goal="speed")["Runner-up"]
    assert re.search(r"\+\d+\.\d ± \d+\.\d epochs from scl", words), words


def test_one_seed_is_not_called_a_correction_for_0_comparisons():
    """Its interval is over new queries."""
    view = finals({loss: values[:1] for loss, values in CLEAR.items()})
    found = verdict(view, DATASET, "ranking")
    second = found.losses[1]
    of_heads = found.differences[second]._replace(half_width=0.01)
    decided = dict(zip([second], decide([of_heads], 0.5), strict=True))
    one = found._replace(differences={second: of_heads}, decisions=decided)
    assert _doubt(one, second) == f", {ONE_SEED}"


def test_a_small_slice_is_said_with_its_steps(monkeypatch):
    few = told()["Scope"]
    rows = int(few.partition("The slice has ")[2].split()[0])
    assert rows < 50
    assert f"its MAP@R is R@1 and moves in steps of {100 / rows:.1f} points" in few
    assert f"its R@1 moves in steps of {100 / rows:.1f} points" in told(goal="top1")["Scope"]
    monkeypatch.setattr("lossgauge.advice.words.FEW_ROWS", rows)
    assert "The slice has" not in told()["Scope"]


def test_a_table_has_given_embeddings(monkeypatch):
    table = fake_features(rows=40)._replace(backbone="none (given embeddings)")
    monkeypatch.setattr("tests.advice.test_words.fake_features", lambda rows: table)
    assert "frozen features (given embeddings), tested" in told()["Scope"]


def test_scope_is_always_said():
    assert "a linear head on frozen features" in told()["Scope"]


def test_a_curve_that_still_rises_is_no_reason_to_keep_the_frozen_features():
    rising = finals(CLEAR, frozen=0.9, curves={loss: [0.4, 0.5, 0.6, 0.7] for loss in CLEAR})
    for row in rising.results.epochs:
        row["map_at_r"] = row["validation_map_at_r"]
    for row in rising.results.summaries:
        row["epochs"] = 3
    found = training(rising, DATASET, verdict(rising, DATASET, "ranking").best, "map_at_r")
    assert found.train == "open"
    words = told(frozen=0.9, view=rising)
    assert words["Train?"].startswith(
        "It cannot be told: too little training (MAP@R still rises by 10.0 points an epoch at the last of 3 epochs). MAP@R is 90.0 % with"
    )
    assert words["Train?"].endswith(
        "Give more minutes, or run the study file below with `--set epochs=9`."
    )
    assert words["Loss"].startswith("For ")
