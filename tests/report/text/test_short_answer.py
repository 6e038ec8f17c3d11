"""The answer of the first screen: what it advises, where, and how it says that it cannot tell."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lossgauge.report.text.answer import answers
from lossgauge.report.text.health_warnings import health_warnings
from lossgauge.report.text.short_answer import short_answer, verdict
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.made_up_study import make_results, no_results
from tests.support.planted_studies import planted_study


def with_values(
    values: dict[str, float], *, frozen: float = 0.5, noise: float = 0.002, **study
) -> Results:
    """A study on `d` whose R@1 and MAP@R are as given, nearly the same in all seeds; the last loss lacks a seed."""
    study = {"datasets": ("d",), "losses": tuple(n for n in values if n != "untrained"), **study}
    results = make_results(**study)
    generator = np.random.default_rng(5)
    for r in results.summaries:
        for column in ("recall_at_1", "map_at_r"):
            r[column] = values[r["base"]] + noise * generator.standard_normal()
    for r in results.references:
        r["recall_at_1"] = r["map_at_r"] = frozen
    return results._replace(failures=[])


def advice(results: Results):
    return verdict(StudyView(results), "d")


def test_the_loss_that_is_clearly_best_and_gains_is_advised():
    results = with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6})
    mean = np.mean([r["recall_at_1"] for r in results.summaries if r["base"] == "scl"])
    of = advice(results)
    assert (of.advice, [loss.name for loss in of.losses]) == ("train", ["scl"])
    start = (
        f"On d, train with scl: R@1 50.0\u00a0% → {100 * mean:.1f}\u00a0% and MAP@R 50.0\u00a0% → "
    )
    assert of.sentence.startswith(start)


def test_a_loss_is_named_without_its_settings_where_it_is_the_only_one_of_its_name():
    results = with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6})
    title = "scl(learning_rate=0.001, batch_size=20)"
    settings = {"learning_rate": 0.001, "batch_size": 20}
    rows = [r for r in (*results.summaries, *results.epochs) if r["base"] == "scl"]
    for r in rows:
        r |= {"loss": title, "base": title}
    losses = [{"name": "scl", "settings": settings}, {"name": "triplet"}]
    of = advice(results._replace(plan={**results.plan, "losses": losses}))
    assert of.sentence.startswith("On d, train with scl: R@1")


def test_losses_without_a_clear_difference_are_advised_together():
    of = advice(with_values({"untrained": 0.5, "scl": 0.7, "ccl": 0.7, "triplet": 0.3}, noise=0.01))
    assert {loss.name for loss in of.losses} == {"scl", "ccl"}
    assert "scl (no clear difference)" in of.sentence or "ccl (no clear difference)" in of.sentence


def test_a_loss_that_leads_by_one_measure_only_is_named_for_it():
    results = with_values({"untrained": 0.5, "scl": 0.7, "ccl": 0.6, "triplet": 0.3})
    for r in results.summaries:
        if r["base"] == "ccl":
            r["map_at_r"] += 0.2
    of = advice(results)
    assert [loss.name for loss in of.losses] == ["scl"]
    assert "R@1 50.0\u00a0% → " in of.sentence
    assert "MAP@R" not in of.sentence


def test_losses_that_lead_by_both_measures_go_before_those_that_lead_by_one():
    results = with_values({"untrained": 0.5, "scl": 0.7, "ccl": 0.7, "triplet": 0.3}, noise=0.01)
    for r in results.summaries:
        if r["base"] == "ccl":
            r["map_at_r"] += 0.2
    of = advice(results)
    assert [loss.name for loss in of.losses] == ["ccl"]
    assert {"R@1", "MAP@R"} <= set(of.sentence.split())


def test_nothing_is_advised_where_the_frozen_features_are_better():
    of = advice(with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6}, frozen=0.9))
    assert (of.advice, of.losses) == ("do not train", ())
    assert "the frozen features beat every loss (R@1 90.0" in of.sentence


class ThreeSteps(RunFiles):
    """Every run made three updates, and kept no queries."""

    def step_count(self, run):
        return 3

    def classes(self, run):
        return []

    def has_queries(self, row):
        return False

    def has_unseen_classes(self, run):
        return False


def test_three_steps_of_training_never_say_that_training_does_not_help():
    results = with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6}, frozen=0.9)
    for r in results.epochs:
        r |= {"recall_at_1": 0.7, "map_at_r": 0.7}
    assert advice(results).advice == "do not train"
    view = StudyView(results, ThreeSteps(Path("nowhere"), (), {}, {}, {}))
    of = verdict(view, "d")
    assert (of.advice, of.losses) == ("open", ())
    assert "too little training to tell whether it helps: 3 steps of the optimiser" in of.sentence
    assert "set epochs: 500" in of.sentence  # 50 steps instead of 3, of 30 epochs
    headline = answers(view)[0].headline
    assert headline.startswith("Too little training to tell whether it helps: 3 steps")
    assert "Do not train" not in headline
    names = {w.loss.name: w.finding.name for w in health_warnings(view) if w.finding.level == "act"}
    assert "training-harms" not in names.values()


def test_a_curve_that_rises_at_the_last_epoch_leaves_it_open_and_one_that_has_ended_does_not():
    results = with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6}, frozen=0.9)
    for r in results.epochs:
        r["recall_at_1"] = 0.7 if r["base"] != "scl" else 0.3 + 0.4 * r["epoch"] / 30
    of = advice(results)
    assert of.advice == "open"
    assert "R@1 still rises by 1.3 points an epoch at the last of 30 epochs with scl" in of.sentence
    assert "set epochs: 90" in of.sentence
    for r in results.epochs:
        r["recall_at_1"] = 0.7
    assert advice(results).advice == "do not train"


def test_a_gain_that_is_not_clear_leaves_it_open_and_is_no_reason_against_training():
    values = {"untrained": 0.5, "scl": 0.53, "triplet": 0.52}
    of = advice(with_values(values, noise=0.05, frozen=0.51))
    assert of.advice == "open"
    assert of.sentence.endswith("more seeds or more test queries would tell.")
    below = {"untrained": 0.5, "scl": 0.42, "triplet": 0.43}
    assert advice(with_values(below, noise=0.05, frozen=0.51)).advice == "do not train"


def test_one_seed_leaves_it_open_or_says_that_it_is_one():
    of = advice(with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6}, seeds=(0,)))
    assert of.advice == "open"
    assert "seed" in of.sentence


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (("scl", "triplet"), "train; one seed cannot tell with which loss: R@1 "),
        (("scl",), "train with scl: R@1 "),
    ],
)
def test_one_seed_whose_queries_show_a_gain_says_nothing_about_losses(losses, words):
    view = planted_study({"untrained": 0.0, "triplet": 1.0, "scl": 1.2}, seeds=(0,))
    rows = [r for r in view.results.summaries if r["base"] in (*losses, "untrained")]
    of = verdict(StudyView(view.results._replace(summaries=rows), view.files), "digits")
    assert of.advice == "train"
    assert of.losses[0].name == "scl"
    assert of.sentence.startswith(f"On digits, {words}")


def test_while_runs_wait_losses_are_compared_over_the_seeds_that_most_have():
    results = with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6, "ccl": 0.6})
    rows = [r for r in results.summaries if r["seed"] == 0 or (r["seed"], r["base"]) == (1, "scl")]
    results = results._replace(summaries=rows, waiting=[{**rows[0], "seed": 1}])
    view = StudyView(results)
    sizes = {loss.name: view.interval("d", loss, "recall_at_1").size for loss in view.losses}
    assert sizes == {"scl": 1, "triplet": 1, "ccl": 1}
    assert advice(results).advice == "open"
    done = StudyView(results._replace(waiting=[]))
    scl = next(loss for loss in done.losses if loss.name == "scl")
    assert done.interval("d", scl, "recall_at_1").size == 2


def test_without_a_reference_only_the_best_is_named():
    results = with_values({"untrained": 0.5, "scl": 0.7, "triplet": 0.6})
    rows = [r for r in results.summaries if r["base"] != "untrained"]
    of = advice(results._replace(summaries=rows, references=[]))
    assert of.advice == "open"
    assert of.sentence == "On d, the best by R@1: scl; not training was not measured."


def test_a_study_without_a_run_says_so_or_nothing():
    assert short_answer(StudyView(no_results())) == []
    waiting = make_results(datasets=("d",))._replace(summaries=[], references=[])
    assert short_answer(StudyView(waiting)) == ["On d, no run has finished yet."]


def test_many_datasets_take_at_most_three_sentences_and_are_all_counted():
    names = tuple(f"set-{n}" for n in range(6))
    view = StudyView(make_results(datasets=names, losses=("triplet", "scl")))
    sentences = short_answer(view)
    assert 1 <= len(sentences) <= 3
    counts = [int(s.partition(" on ")[2].partition(" of ")[0]) for s in sentences]
    assert sum(counts) == 6
    assert all("of 6 datasets" in s for s in sentences)


def test_a_name_of_300_letters_does_not_fill_the_screen():
    results = make_results(datasets=("x" * 300,))
    assert all(len(sentence) < 300 for sentence in short_answer(StudyView(results)))


def test_too_little_training_is_only_said_of_the_loss_that_is_shown(monkeypatch):
    """On the first screen and in the answer in detail."""
    results = with_values({"untrained": 0.5, "scl": 0.5, "triplet": 0.4})
    found = SimpleNamespace(evidence="3 steps", advice="`epochs: 50`")
    for name, said in (("scl", True), ("triplet", False)):
        monkeypatch.setattr(
            "lossgauge.report.text.short_training.of_loss",
            lambda view, dataset, loss, of, name=name: found if loss.base == name else None,
        )
        assert ("too little training" in advice(results).sentence) is said
        (detail,) = answers(StudyView(results))
        assert ("Too little training" in detail.headline) is said
