"""Tuned against default: the numbers beside each other, what moved, and what one seed cannot say."""

from __future__ import annotations

import numpy as np
import pytest

from lossgauge.report.naming import COLORS
from lossgauge.report.text.answer import answers
from lossgauge.report.text.tuning import TunedRow, Tuning, budget, tuned_finding, tuning
from lossgauge.results.view import Loss, StudyView
from lossgauge.types import Results
from tests.support.made_up_study import make_results
from tests.support.slow_seeds import over_seeds

DATASET = "orl-faces"


def found(results: Results, dataset: str = DATASET) -> Tuning:
    part = tuning(StudyView(results), dataset)
    assert part is not None
    return part


def row(results: Results, name: str, dataset: str = DATASET) -> TunedRow:
    return next(row for row in found(results, dataset).rows if row.name == name)


def set_recall(results: Results, recalls: dict[str, tuple[float, ...]]) -> None:
    for r in results.summaries:
        if r["loss"] in recalls:
            r["recall_at_1"] = recalls[r["loss"]][r["seed"]]


@pytest.fixture
def three() -> Results:
    """Three losses whose order flips round when they are tuned."""
    results = make_results(("a", "b"), ("contrastive", "triplet", "scl"), tuned=True)
    set_recall(
        results,
        {
            "contrastive": (0.50, 0.60, 0.70),
            "triplet": (0.60, 0.70, 0.80),
            "scl": (0.65, 0.751, 0.85),
            "contrastive(tuned)": (0.70, 0.801, 0.90),
            "triplet(tuned)": (0.60, 0.72, 0.79),
            "scl(tuned)": (0.55, 0.65, 0.751),
        },
    )
    return results


def test_a_study_that_tunes_nothing_has_no_such_section(view):
    assert tuning(view, DATASET) is None
    assert tuned_finding(view, DATASET) is None
    assert view.tuned == ()


def test_a_tuned_loss_is_no_further_loss_of_the_plan(varied_view):
    assert [loss.base for loss in varied_view.losses] == list(COLORS)
    contrastive, triplet = (Loss(name, name) for name in ("contrastive", "triplet"))
    tuned = contrastive._replace(tuned=True)
    assert varied_view.tuned[0] == tuned
    assert varied_view.losses_and_tuned[:3] == (contrastive, tuned, triplet)


def test_a_row_sets_default_and_tuned_side_by_side_with_the_paired_difference(varied):
    values = {
        loss: [
            100 * r["recall_at_1"]
            for r in varied.summaries
            if (r["dataset"], r["loss"]) == (DATASET, loss)
        ]
        for loss in ("arcface", "arcface(tuned)")
    }
    default, tuned = values.values()
    gap = np.subtract(tuned, default)
    study = [
        [r["recall_at_1"] for r in varied.summaries if (r["dataset"], r["loss"]) == (DATASET, loss)]
        for loss in COLORS
    ]
    sides = [[value / 100 for value in values] for values in (tuned, default)]
    half = 100 * over_seeds(sides[:1], sides[1:], study).half_width
    cell = row(varied, "arcface").cells[1]
    before, after = cell.text.split(" → ")
    assert before.startswith(f"{np.mean(default):.1f}\u00a0% ± ")
    assert after.startswith(f"{np.mean(tuned):.1f}\u00a0% ± ")
    assert cell.detail == f"+{np.mean(gap):.1f} ± {half:.1f} points"
    assert cell.leads


def test_a_difference_that_the_seeds_cannot_tell_is_not_marked(three):
    cell = row(three, "triplet", "b").cells[1]
    assert cell.detail.endswith("no clear difference")
    assert not cell.leads
    assert not row(three, "scl", "b").cells[1].leads  # clearly worse


def test_one_seed_has_no_gain():
    results = make_results(("a", "b"), ("triplet", "scl"), (0,), tuned=True)
    assert row(results, "triplet", "b").cells[0].detail.endswith("points, one seed")
    assert found(results, "b").sentences[0].startswith("One seed shows no spread")


def test_chosen_settings_objective_and_trials_are_told(varied):
    chosen = next(r for r in varied.tuned if r["trial"] and r["dataset"] == DATASET)
    told = row(varied, chosen["base"])
    assert told.settings == chosen["settings"]
    assert told.trials == "12, 1 failed"
    assert f"{100 * chosen['default_objective']:.1f}\u00a0% → " in told.cells[2].text
    assert told.cells[2].detail.endswith("the best of all trials")


def test_settings_that_stay_as_in_the_plan_are_said_to(varied):
    varied.tuned[-1]["trial"] = 0
    told = row(varied, varied.tuned[-1]["base"])
    assert told.settings.startswith("as in the plan: ")
    assert told.cells[2].detail == "as in the plan, the best of all trials"


def test_a_loss_whose_every_trial_failed_has_its_error_and_no_number(varied):
    told = row(varied, "ccl", "digits")
    assert told.cells == ()
    assert "all 3 trials failed" in told.failure
    assert told.trials == "3, 3 failed"


def test_a_tuned_run_that_failed_is_told(three):
    rows = [r for r in three.summaries if r["loss"] != "triplet(tuned)"]
    columns = {"dataset": "b", "loss": "triplet(tuned)", "base": "triplet", "variant": "tuned"}
    failed = [{**columns, "run": "x", "seed": s, "error": "NaN"} for s in (0, 1, 2)]
    results = three._replace(summaries=rows, epochs=[], failures=failed)
    assert "seed 1 failed: NaN" in row(results, "triplet", "b").failure
    assert "triplet" not in {r["loss"] for r in failed}
    losses = [loss.base for loss in StudyView(results).losses]
    assert losses == ["contrastive", "triplet", "scl"]


def test_the_sentences_say_who_gains_and_what_the_ranking_does(three):
    first, second, third = found(three, "b").sentences
    assert (
        first
        == "By MAP@R, the objective of the search, 1 of 3 losses gains by tuning (contrastive); the rest shows no clear difference."
    )
    assert second == (
        "By R@1, 1 of 3 losses gains by tuning (contrastive); scl loses; the rest shows no clear difference."
    )
    assert third == (
        "2 of 3 pairs of losses change places in R@1: contrastive passes scl, triplet passes scl; "
        "rank correlation of the two rankings −1.00."
    )


def test_a_ranking_that_stays_is_said_to_stay(three):
    for r in three.summaries:
        if r["loss"].endswith("(tuned)"):
            default = next(
                q
                for q in three.summaries
                if (q["dataset"], q["loss"], q["seed"]) == (r["dataset"], r["base"], r["seed"])
            )
            r["recall_at_1"] = default["recall_at_1"] + 0.05 + 0.001 * r["seed"]
    assert found(three, "b").sentences == (
        "By MAP@R, the objective of the search, 1 of 3 losses gains by tuning (contrastive); the rest shows no clear difference.",
        "By R@1, 3 of 3 losses gain by tuning.",
        "No two losses clearly change places in R@1; rank correlation of the two rankings +1.00.",
    )


def test_the_answer_ranks_defaults_and_tells_of_tuning_beside_it(three):
    answer = next(a for a in answers(StudyView(three)) if a.dataset == "b")
    assert answer.headline.startswith("No loss is clearly better than the frozen features")
    assert "tuned" not in answer.headline
    topics = {f.topic: f for f in answer.findings}
    assert "contrastive passes scl" in topics["Tuned"].sentence
    assert "contrastive +20.0" in topics["Tuned"].evidence
    assert "tuned" not in topics["Retrieval"].evidence


def test_the_budget_is_the_same_for_all_and_off_the_test_side(varied):
    told = budget(StudyView(varied))
    assert "12 trials of 30 epochs, drawn by TPE, judged by MAP@R" in told
    assert "validation slice of the training side" in told
    varied.plan["tune"] = {"trials": 9, "epochs": 4, "sampler": "random"}
    varied.plan["validation_share"] = 0.2
    varied.plan["selection_metric"] = "recall_at_1"
    assert "9 trials of 4 epochs, drawn at random, judged by R@1" in budget(StudyView(varied))
    assert "slice (20 %)" in budget(StudyView(varied))
    assert "Trials had 4 epochs and the runs 30" in budget(StudyView(varied))
    assert "did not use the test side, and" in budget(StudyView(varied))
    varied.plan["selection"] = "oracle"
    assert "did not use the test side, and" not in budget(StudyView(varied))
    assert "their epochs were selected on it" in budget(StudyView(varied))
    assert budget(StudyView(make_results())) == ""


def test_own_settings_in_the_plan_keep_their_name_and_colour(varied):
    varied.plan["losses"][1]["settings"] = {"margin": 0.1}
    for r in [*varied.summaries, *varied.epochs, *varied.tuned, *varied.trials]:
        if r.get("base") == "triplet":
            r["loss"] = (
                "triplet(margin=0.1, tuned)" if "tuned" in r["loss"] else "triplet(margin=0.1)"
            )
            r["base"] = "triplet(margin=0.1)"
    told = row(varied, "triplet(margin=0.1)")
    assert told.color == COLORS["triplet"]
    assert told.cells
