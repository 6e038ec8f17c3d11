"""Claims of a user: read, checked, and tested like those of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lossgauge.claims.own_claims import claims_of, read_claims, statements
from lossgauge.claims.statements import CLAIMS, Contrast
from lossgauge.claims.verdicts import verdicts
from lossgauge.errors import PlanError
from lossgauge.plan.claim import ClaimPlan
from lossgauge.plan.yaml_file import parse_plan
from lossgauge.results.view import StudyView
from lossgauge.study.prepare import check_plan
from tests.claims.conftest import random_study
from tests.support.studies import SMALL

CLAIM = """
claims:
  - claim: Mine.
    losses: [triplet, scl]
    than: info_nce
    column: test_intra
    direction: higher
    split: class-disjoint
"""


def file_of(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_claims_is_read(tmp_path):
    (claim,) = statements(read_claims(file_of(tmp_path, CLAIM)), ["triplet", "scl", "info_nce"])
    assert (claim.key, claim.words, claim.protocol) == ("own 1", "Mine.", "class-disjoint")
    expected = Contrast(("triplet", "scl"), ("info_nce",), "test_intra", "higher")
    assert claim.contrasts == (expected,)


def test_own_claims_come_after_those_of_the_paper_and_of_the_study():
    results = random_study()
    results.plan["claims"] = [
        {
            "claim": "A.",
            "losses": ["ccl"],
            "than": ["scl"],
            "column": "recall_at_1",
            "direction": "lower",
        }
    ]
    own = ClaimPlan(
        claim="B.", losses=["scl"], than=["ccl"], column="recall_at_1", direction="higher"
    )
    stated = claims_of(StudyView(results), [own])
    assert stated[: len(CLAIMS)] == CLAIMS
    assert [(c.key, c.words) for c in stated[len(CLAIMS) :]] == [("own 1", "A."), ("own 2", "B.")]


def test_an_own_claim_has_the_verdict_of_the_same_claim_of_the_paper():
    results = random_study(3)
    same = ClaimPlan(
        claim="Like 1.",
        losses=["triplet", "scl"],
        than=["contrastive", "info_nce"],
        column="test_intra",
        direction="higher",
    )
    stated = claims_of(StudyView(results), [same])
    told = {v.claim.key: v for v in verdicts(StudyView(results), "d", stated)}
    assert told["own 1"]._replace(claim=told["1"].claim) == told["1"]


def test_the_split_of_an_own_claim_counts():
    results = random_study()
    own = ClaimPlan(
        claim="B.",
        losses=["scl"],
        than=["ccl"],
        column="test_intra",
        direction="higher",
        split="halves",
    )
    stated = claims_of(StudyView(results), [own])
    told = verdicts(StudyView(results), "d", stated)[-1]
    assert told.status == "not tested"
    assert "about a halves split" in told.reason


def test_losses_may_be_named_as_elsewhere_and_files_without_their_folders():
    planned = ["a/my.py:Pull", "triplet(margin=0.1)", "triplet"]
    plan = ClaimPlan(
        claim="C.",
        losses=["my.py:Pull", "SupConLoss"],
        than=["triplet(margin=0.1)", "untrained", "triplet(margin=9)"],
        column="map_at_r",
        direction="higher",
    )
    ((contrast,),) = (claim.contrasts for claim in statements([plan], planned))
    assert contrast.left == ("a/my.py:Pull", "scl")
    assert contrast.right == ("triplet(margin=0.1)", "untrained", "triplet(margin=9)")


def test_the_untrained_head_can_be_compared():
    results = random_study(losses=("scl", "untrained"))
    own = ClaimPlan(
        claim="D.", losses=["scl"], than=["untrained"], column="test_intra", direction="higher"
    )
    told = verdicts(StudyView(results), "d", claims_of(StudyView(results), [own]))[-1]
    assert told.effect is not None
    assert told.effect.size == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("triplet", "triplett"),
            "own 1 ('Mine.'): unknown loss 'triplett' (did you mean 'triplet'?)",
        ),
        (("test_intra", "test_intro"), "unknown column 'test_intro' (did you mean 'test_intra'?)"),
        (
            ("direction: higher", "direction: up"),
            "claims.0.direction must be 'higher' or 'lower', got 'up'",
        ),
        (("test_intra", "R@1"), "unknown column 'R@1' (did you mean 'recall_at_1'?)"),
        (("claim: Mine.", "claim: ' '"), "say what is claimed, got an empty text"),
        (("split: class-disjoint", "split: class_disjoint"), "claims.0.split must be "),
        (("column:", "colum:"), "unknown key 'claims.0.colum' (did you mean 'column'?)"),
        (("claims:", "claim:"), "unknown key 'claim'"),
        (("[triplet, scl]", "[info_nce]"), "info_nce is in losses and in than"),
        (("[triplet, scl]", "[scl, scl]"), "a loss is listed twice: scl, scl"),
        (("[triplet, scl]", "[]"), "claims.0.losses: give at least one loss, got []"),
        (("    column: test_intra\n", ""), "the key 'claims.0.column' is missing"),
        ((CLAIM, "claims: []"), "claims must have at least 1 entries, got []"),
        ((CLAIM, "claims"), "must contain keys and values, got str"),
        ((CLAIM, "claims: &a []"), "anchors"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, change, words):
    path = file_of(tmp_path, CLAIM.replace(*change))
    with pytest.raises(PlanError) as raised:
        statements(read_claims(path), ["triplet", "scl"])
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_folded_text_is_one_line(tmp_path):
    folded = CLAIM.replace("claim: Mine.", "claim: >\n      Mine is\n      longer.")
    (plan,) = read_claims(file_of(tmp_path, folded))
    assert plan.claim == "Mine is longer."


def test_claims_may_be_given_as_a_list_of_dicts(tmp_path):
    path = file_of(tmp_path, CLAIM)
    assert read_claims(yaml.safe_load(CLAIM)["claims"]) == read_claims(path)
    for wrong in (3, [3], [{"claim": "x"}], {}):
        with pytest.raises(PlanError, match=r"^the claims: ") as raised:
            read_claims(wrong)
        assert "\n" not in str(raised.value)


def test_a_column_that_no_run_has_is_an_error(tmp_path):
    view = StudyView(random_study())
    own = read_claims(file_of(tmp_path, CLAIM.replace("test_intra", "validation_map_at_r")))
    with pytest.raises(PlanError, match=r"^own 1: no run of this study has the column") as raised:
        claims_of(view, own)
    assert "recall_at_1" in str(raised.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(PlanError, match=r"there is no file '.*none.yaml'"):
        read_claims(tmp_path / "none.yaml")
    with pytest.raises(PlanError, match="is not a regular file"):
        read_claims(tmp_path)


def test_the_claims_of_a_study_file_are_checked_before_anything_is_written():
    plan = parse_plan(SMALL + CLAIM.replace("info_nce", "ccl"))
    assert plan.claims[0].than == ["ccl"]
    check_plan(plan)
    with pytest.raises(PlanError, match=r"unknown loss 'tripple' \(did you mean 'triplet'"):
        check_plan(parse_plan(SMALL + CLAIM.replace("[triplet", "[tripple")))
    with pytest.raises(PlanError, match="did you mean 'test_intra'"):
        check_plan(parse_plan(SMALL + CLAIM.replace("test_intra", "tst_intra")))
