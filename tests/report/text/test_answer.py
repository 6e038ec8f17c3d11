"""Sentences that say what the seeds show, and no more."""

from __future__ import annotations

import pytest

from lossgauge.report.text.answer import answers, question
from lossgauge.report.text.health_warnings import HealthWarning, grouped, health_warnings
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.made_up_study import columns_of, make_results, no_results


def set_recall(results: Results, recalls: dict[str, tuple[float, ...]]) -> None:
    """R@1 of each seed; MAP@R is 15 points less."""
    for r in results.summaries:
        if r["loss"] in recalls:
            r["recall_at_1"] = recalls[r["loss"]][r["seed"]]
            r["map_at_r"] = r["recall_at_1"] - 0.15


def set_column(results: Results, loss: str, **columns: float | None) -> None:
    for r in [*results.summaries, *results.epochs]:
        if r["loss"] == loss:
            r.update(columns)


def sentence(results: Results, topic: str, dataset: str = "b") -> str:
    answer = next(a for a in answers(StudyView(results)) if a.dataset == dataset)
    return next(f.sentence for f in answer.findings if f.topic == topic)


@pytest.fixture
def three() -> Results:
    results = make_results(datasets=("a", "b"), losses=("contrastive", "triplet", "scl"))
    set_recall(
        results,
        {
            "untrained": (0.50, 0.60, 0.70),
            "contrastive": (0.45, 0.552, 0.651),
            "triplet": (0.60, 0.70, 0.801),
            "scl": (0.65, 0.751, 0.85),
        },
    )
    for row in results.references:
        if row["reference"] == "frozen features":
            row["recall_at_1"] = row["map_at_r"] = None
    return results


def test_the_question_counts_the_losses(results):
    assert question(StudyView(results)) == "What do these seven losses do to this embedding space?"
    assert "this loss" in question(StudyView(make_results(losses=("scl",), datasets=("a",))))


def test_the_plans_own_question_comes_first(results):
    results.plan["question"] = "Does it bend?"
    assert question(StudyView(results)) == "Does it bend?"


def test_a_resolved_difference_is_ahead_with_its_size(three):
    told = sentence(three, "Retrieval")
    assert told.startswith(
        "scl has the highest R@1, clearly above triplet, the second, by 5.0 ± 0.2 points"
    )
    assert "3 paired seeds" in told


def test_an_unresolved_difference_is_not_called_ahead(three):
    set_recall(three, {"triplet": (0.66, 0.70, 0.87)})
    told = sentence(three, "Retrieval")
    assert "but 3 seeds show no clear difference from triplet" in told
    assert "clearly above" not in told
    assert (
        "Best by R@1: scl and triplet (no clear difference)"
        in answers(StudyView(three))[1].headline
    )


def test_one_seed_claims_nothing_about_who_is_ahead():
    told = sentence(make_results(datasets=("a", "b"), seeds=(0,)), "Retrieval")
    assert "one seed shows no spread" in told
    assert "clearly above" not in told


def test_losses_are_set_against_no_training(three):
    set_recall(three, {"triplet": (0.65, 0.752, 0.851), "scl": (0.66, 0.761, 0.86)})
    told = sentence(three, "Compared with no training")
    assert told.startswith(
        "By R@1, triplet and scl are better than the untrained head; "
        "contrastive is worse than the untrained head. By MAP@R, triplet"
    )


def test_gains_that_no_loss_can_show_are_said_of_all(three):
    set_recall(three, dict.fromkeys(("contrastive", "triplet", "scl"), (0.7, 0.5, 0.6)))
    assert sentence(three, "Compared with no training").startswith(
        "By R@1, none of the 3 losses is clearly different from the untrained head."
    )


def test_the_first_sentence_is_about_not_training_and_the_first_finding_too(three):
    answer = answers(StudyView(three))[1]
    assert answer.headline.startswith(("Training helps by R@1", "No loss is clearly better"))
    assert answer.findings[0].topic == "Compared with no training"
    assert "corrected (Holm) for 3 comparisons" in answer.findings[0].evidence


def test_nothing_is_best_where_no_loss_is_better_than_not_training(three):
    for row in three.references:
        if row["reference"] == "frozen features":
            row["recall_at_1"] = 0.90
    headline = answers(StudyView(three))[1].headline
    assert "Best" not in headline
    assert "Most variance kept" in headline


def test_a_single_loss_is_not_called_best():
    headline = answers(StudyView(make_results(datasets=("b",), losses=("scl",))))[0].headline
    for words in ("Best", "Most variance", "First to compact"):
        assert words not in headline
    assert "scl" in headline


def test_variance_and_compaction_name_both_ends(results):
    assert sentence(results, "Variance kept", "orl-faces").startswith("n_pair keeps the most")
    assert "contrastive keeps the least" in sentence(results, "Variance kept", "orl-faces")
    assert sentence(results, "Compaction", "orl-faces").startswith("contrastive compacts first")


def test_ends_that_cannot_be_told_apart_are_said_to_be_so(three):
    for r in three.summaries:
        r["test_intra"] = 0.3 + 0.1 * (r["seed"] == len(r["loss"]) % 3)
    told = sentence(three, "Variance kept")
    assert "but 3 seeds show no clear difference from" in told
    assert "keeps the least, without a clear difference from" in told


def test_updates_are_sorted_by_number_and_size():
    results = make_results(datasets=("b",), losses=("contrastive", "triplet", "scl", "ccl"))
    for loss, share, size in (
        ("contrastive", 0.9, 0.001),
        ("triplet", 0.2, 0.9),
        ("scl", 0.8, 0.5),
        ("ccl", 0.3, 0.01),
    ):
        set_column(results, loss, gradient_active_ratio=share, embedding_gradient=size)
    for r in results.summaries:
        r["embedding_gradient"] = r.get("embedding_gradient") and r["embedding_gradient"] + (
            1e-4 * (r["seed"] + len(r["loss"]) * r["seed"] ** 2)
        )
    told = sentence(results, "Updates")
    assert told.startswith(
        "Many small updates: contrastive; few large updates: triplet; triplet uses the smallest "
    )
    assert "temperature" in told
    for r in results.summaries:
        if r["loss"] == "contrastive":  # its size is not told from the large ones
            r["embedding_gradient"] = (0.001, 3.0, 0.2)[r["seed"]]
    assert "contrastive" not in sentence(results, "Updates")


def test_one_seed_says_nothing_of_updates_and_of_the_least():
    one = make_results(seeds=(0,))
    assert sentence(one, "Updates", "orl-faces").startswith("One seed shows no spread")
    assert "the least" not in sentence(one, "Variance kept", "orl-faces")
    assert "end with less variance: one seed shows no spread." in sentence(
        one, "Trade-off", "orl-faces"
    )
    set_recall(one, dict.fromkeys(("scl", "ccl"), (1.0,)))
    assert "Best" not in answers(StudyView(one))[1].headline


def test_a_loss_that_lacks_a_seed_leads_nothing(three):
    whole = answers(StudyView(three))[1].headline
    assert "Best by R@1: scl" in whole
    rows = [r for r in three.summaries if (r["loss"], r["seed"]) != ("scl", 2)]
    for r in rows:
        if r["loss"] == "triplet":  # sooner than all, where it came there
            r["compaction_epochs"] = None if r["seed"] == 1 else 0.5
    lost = {**columns_of("b", "scl", 2), "error": "NaN"}
    part = answers(StudyView(three._replace(summaries=rows, failures=[lost])))[1]
    assert "Best by R@1: triplet" in part.headline
    assert "First to compact: contrastive" in part.headline
    topics = {f.topic: f for f in part.findings}
    assert "scl 70.0" in topics["Retrieval"].evidence
    assert "(2 of 3 seeds)" in topics["Retrieval"].evidence
    assert "Compaction" not in topics  # a single loss got there in every seed


def test_losses_that_move_all_samples_are_not_ranked_by_how_many(results):
    for r in results.summaries:
        if r["loss"] != "untrained":
            r["gradient_active_ratio"] = 1.0 - 0.001 * len(r["loss"])
    told = sentence(results, "Updates", "orl-faces")
    assert told.startswith("All losses have about the same active ratio; ")
    assert "many small" not in told.lower()


def test_the_trade_off_is_seen_with_n_and_hedged(results):
    told = sentence(results, "Trade-off", "orl-faces")
    assert told.startswith("In line with the trade-off")
    assert "7 points" in told
    finding = next(f for f in answers(StudyView(results))[1].findings if f.topic == "Trade-off")
    assert "n = 7 losses" in finding.evidence


def test_a_trade_off_the_other_way_is_said(results):
    for r in results.summaries:
        if r["loss"] != "untrained":
            r["compaction_epochs"] = 40 - 30 * r["test_intra"]
    assert sentence(results, "Trade-off", "orl-faces").startswith("Against the trade-off")


def test_three_losses_in_perfect_order_are_not_told_from_chance(three):
    assert "end with less variance: not distinguishable from chance." in sentence(
        three, "Trade-off"
    )


def test_no_results_have_no_answer_and_no_warnings():
    assert answers(StudyView(no_results())) == []
    assert health_warnings(StudyView(no_results())) == []


def warnings_of(results: Results, loss: str, level: str = "act") -> list[HealthWarning]:
    warnings = health_warnings(StudyView(results))
    return [w for w in warnings if w.loss.base == loss and w.finding.level == level]


def test_a_healthy_study_has_no_warning(results):
    assert {w.finding.level for w in health_warnings(StudyView(results))} == {"ok"}


def test_a_bad_warning_has_words_evidence_and_one_thing_to_try(results):
    assert warnings_of(results, "triplet") == []
    set_column(results, "triplet", test_intra=1e-5, test_inter=2e-5)
    first, *_ = warnings_of(results, "triplet")
    assert first.words == "the whole space has collapsed to one point"
    assert first.finding.evidence.startswith("intra 1e-05 and inter 2e-05")
    assert first.finding.advice


def test_a_head_that_harms_is_named_only_where_both_measures_are_clearly_worse(three):
    worse = (0.30, 0.402, 0.501)
    set_recall(three, {"contrastive": worse, "scl": (0.9, 0.905, 0.95)})
    assert "makes retrieval worse" in warnings_of(three, "contrastive")[0].words
    assert "R@1 −19.9 ± " in warnings_of(three, "contrastive")[0].finding.evidence
    assert "MAP@R −19.9 ± " in warnings_of(three, "contrastive")[0].finding.evidence
    for r in three.summaries:
        if r["loss"] == "contrastive":
            r["map_at_r"] += 0.4
    assert warnings_of(three, "contrastive") == []
    set_recall(three, {"contrastive": (0.45, 0.65, 0.69)})
    assert warnings_of(three, "contrastive") == []


def test_a_floor_is_a_note_and_not_a_fault(results):
    notes = [s for s in health_warnings(StudyView(results)) if s.finding.level == "ok"]
    assert {s.loss.base for s in notes} == {"n_pair", "scl"}
    assert all("normal" in s.words for s in notes)


def test_a_loss_without_gradients_at_the_end_is_noted(results):
    for r in results.epochs:
        if r["loss"] == "triplet" and r["epoch"] > 20:
            r["gradient_active_ratio"] = 0.01
    assert any("almost no effect" in s.words for s in warnings_of(results, "triplet", "watch"))


def test_a_space_still_compacting_at_the_end_is_noted(results):
    set_column(results, "triplet", compaction_epochs=26.0)
    assert any("still falling" in s.words for s in warnings_of(results, "triplet", "watch"))
    told = sentence(results, "Compaction", "orl-faces")
    assert "it was still falling at the end of training for triplet." in told
    assert "still falling" not in answers(StudyView(results))[0].headline
    set_column(results, "contrastive", compaction_epochs=25.0)
    set_column(results, "triplet", compaction_epochs=24.0)
    for loss in ("n_pair", "info_nce", "arcface", "scl", "ccl"):
        set_column(results, loss, compaction_epochs=26.0)
    for r in results.summaries:
        if r["loss"] == "triplet":
            r["compaction_epochs"] += 0.01 * r["seed"]
    assert (
        "First to compact: triplet (intra was still falling"
        in answers(StudyView(results))[0].headline
    )
    assert "for all." in sentence(results, "Compaction", "orl-faces")
    set_column(results, "triplet", compaction_epochs=9.0)
    assert warnings_of(results, "triplet", "watch") == []


def test_the_same_warning_is_shown_once_for_all_that_show_it(results):
    found = health_warnings(StudyView(results))
    groups = grouped(found)
    assert len(groups) == 1
    assert groups[0].warnings == tuple(found)


def test_a_loss_that_never_had_more_gradients_gets_no_note(results):
    """N-pair uses two samples a class: a small share from the first step to the last."""
    for row in results.epochs:
        if row["loss"] == "n_pair" and row["epoch"] > 0:
            row["gradient_active_ratio"] = 0.04
    assert not any("almost no effect" in s.words for s in warnings_of(results, "n_pair", "watch"))


def test_the_loss_that_uses_the_fewest_of_its_terms_is_named(results):
    told = " ".join(
        text for answer in answers(StudyView(results)) for text in map(str, answer.findings)
    )
    assert "triplet uses the smallest share of its terms" in told
