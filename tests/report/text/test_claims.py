"""The claims as the page shows them."""

from __future__ import annotations

from lossgauge.claims.statements import CLAIMS
from lossgauge.claims.verdicts import STATUSES, verdicts
from lossgauge.plan.claim import ClaimPlan
from lossgauge.report.text.claims import Claims, claims
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.made_up_study import make_results, no_results


def shown(results: Results) -> Claims:
    made = claims(StudyView(results))
    assert made is not None
    return made


def test_each_claim_has_a_verdict_on_each_dataset(varied):
    of = shown(varied)
    assert [one.dataset for one in of.datasets] == ["digits", "orl-faces"]
    assert [line.key for line in of.lines] == [claim.key for claim in CLAIMS]
    assert of.not_tested == ()
    for place, dataset in enumerate(("digits", "orl-faces")):
        expected = [verdict.status for verdict in verdicts(StudyView(varied), dataset)]
        assert [line.statuses[place][0] for line in of.lines] == expected
        shown_there = (*of.datasets[place].verdicts, *of.datasets[place].not_tested)
        assert sorted(s.status for s in shown_there) == sorted(expected)


def test_what_was_not_tested_is_apart_with_its_reason(varied):
    of = shown(varied).datasets[0]
    assert [s.key for s in of.not_tested] == ["3", "7b"]
    assert all("class-disjoint" in s.reason for s in of.not_tested)
    assert all(s.status != "not tested" for s in of.verdicts)


def test_a_claim_that_no_dataset_can_test_is_only_named(results):
    of = shown(results)  # both splits have all classes on both sides
    assert [line.key for line in of.not_tested] == ["3", "7b"]
    assert not {"3", "7b"} & {line.key for line in of.lines}


def test_what_is_tested_has_evidence(varied):
    for of in shown(varied).datasets:
        assert all(s.evidence for s in of.verdicts if s.status != "not tested")


def test_the_verdicts_move_over_default_tuned_and_each_multiple(varied):
    of = shown(varied).datasets[1]
    assert of.columns == ("default", "tuned", "× 0.25", "× 0.5", "× 2", "× 4")
    assert all(len(row.cells) == len(of.columns) for row in of.movements)
    third = next(row for row in of.movements if row.key == "3")
    assert third.cells[0] == ("supported", "+2.63 ± 0.35 points")
    assert third.cells[1] == ("supported", "+0.89 ± 0.34 points")
    assert "against the claim in R@1 with scl(temperature=" in third.turning
    assert next(row for row in of.movements if row.key == "5").cells[0][1] == "4 for"
    assert third.shares.endswith("of 144")


def test_a_study_without_variants_shows_no_movement(results):
    assert all(of.movements == () for of in shown(results).datasets)
    only_tuned = shown(make_results(tuned=True)).datasets[1]
    assert only_tuned.columns == ("default", "tuned")


def test_own_claims_are_shown_after_the_others_and_alone(results):
    own = ClaimPlan(
        claim="Mine.", losses=["scl"], than=["ccl"], column="map_at_r", direction="higher"
    )
    made = claims(StudyView(results), [own])
    assert made is not None
    assert made.title == "Claims of the paper, and your own"
    assert (made.lines[-1].key, made.lines[-1].words) == ("own 1", "Mine.")
    assert shown(results).title == "Claims of the paper"
    for r in [*results.summaries, *results.epochs, *results.failures]:
        r["loss"] = r["base"] = f"my.py:{r['base']}"
    plan = [{"name": name, "settings": {}} for name in ("my.py:scl", "my.py:ccl")]
    results = results._replace(plan={**results.plan, "losses": plan})
    assert claims(StudyView(results)) is None
    mine = own.model_copy(update={"losses": ["my.py:scl"], "than": ["my.py:ccl"]})
    alone = claims(StudyView(results), [mine])
    assert alone is not None
    assert alone.lines[-1].statuses[1][0] != "not tested"


def test_what_all_datasets_say_stands_beside_each_claim(varied):
    for line in shown(varied).lines:
        assert line.over[0] in STATUSES
        assert "of 2 datasets" in line.over[1]


def test_a_study_of_other_losses_has_no_claims():
    results = make_results(losses=("scl",))
    for r in [*results.summaries, *results.epochs, *results.failures]:
        r["loss"] = r["base"] = r["base"].replace("scl", "my.py:Pull")
    assert claims(StudyView(results)) is None
    assert claims(StudyView(make_results(losses=("scl",)))) is not None


def test_the_paper_is_not_asked_of_nothing():
    assert claims(StudyView(no_results())) is None
