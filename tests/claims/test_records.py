"""The records of claims: the same numbers as the verdicts, as JSON can represent them."""

from __future__ import annotations

import json

from lossgauge.claims.record_lines import record_lines
from lossgauge.claims.records import all_records, records_on
from lossgauge.claims.statements import CLAIMS
from lossgauge.claims.verdicts import verdicts
from lossgauge.results.view import StudyView
from lossgauge.terminal import WIDTH
from tests.claims.conftest import random_study
from tests.support.made_up_study import make_results, no_results


def test_there_is_one_record_for_each_claim_and_dataset_and_one_over_all():
    view = StudyView(make_results())
    records = all_records(view)
    count = len(CLAIMS)
    assert [r.datasets for r in records[:count]] == [("digits",)] * count
    absent = records[2 * count : 3 * count]
    assert {r.datasets for r in absent} == {("cars196",)}
    assert {r.verdict for r in absent} == {"not tested"}
    assert all(r.reason.startswith("not on this machine: ") for r in absent)
    everywhere = ("digits", "orl-faces", "cars196")
    assert [r.datasets for r in records[-count:]] == [everywhere] * count
    assert [r.key for r in records] == [claim.key for claim in CLAIMS] * 4
    for place, record in enumerate(records[-count:]):
        on_each = [records[number * count + place].verdict for number in range(3)]
        assert [member["verdict"] for member in record.members] == on_each
        assert "of 3 datasets" in record.reason
    assert all_records(StudyView(no_results())) == []


def test_a_record_has_the_numbers_of_its_verdict():
    view = StudyView(random_study(4))
    for record, verdict in zip(records_on(view, "d"), verdicts(view, "d"), strict=True):
        assert (record.verdict, record.reason) == (verdict.status, verdict.reason)
        assert len(record.members) == len(record.evidence)
        assert len(record.members) == len(verdict.results) + len(verdict.orderings)
        if verdict.effect is not None:
            assert record.effect == verdict.effect.mean
            assert record.interval == (verdict.effect.low, verdict.effect.high)
            assert record.members[0]["effect"] == record.effect
    records = records_on(view, "d")
    one, seven, eight = records[0], records[6], records[-1]
    assert [m["kind"] for m in one.members] == ["contrast", *["pair"] * 4]
    assert [m["kind"] for m in eight.members] == ["contrast"] * 5
    assert (eight.effect, eight.interval) == (None, None)
    (ordering,) = seven.members
    assert ordering["kind"] == "ordering"
    assert seven.effect == ordering["effect"]


def test_records_are_plain_json():
    for results in (make_results(tuned=True, factors=(0.5, 2.0)), make_results(seeds=(0,))):
        records = all_records(StudyView(results))
        read = json.loads(json.dumps([r.plain for r in records], allow_nan=False))
        assert [r["verdict"] for r in read] == [r.verdict for r in records]
        fields = {"claim", "verdict", "effect", "interval", "datasets", "reason", "members"}
        assert fields <= read[0].keys()
        assert "movement" not in read[0]


def test_lines_name_each_dataset_once_and_fit_a_terminal():
    records = all_records(StudyView(make_results()))
    lines = list(record_lines(records))
    first = lines.index("digits")
    assert lines[0] == "claim 1: digits supported, orl-faces supported, cars196 not tested"
    keys = [line.split(":")[0] for line in lines[:first] if line.startswith("claim ")]
    assert keys == [f"claim {claim.key}" for claim in CLAIMS]
    assert [line for line in lines[first:] if not line.startswith(" ")] == [
        "digits",
        "orl-faces",
        "cars196",
        "over 3 datasets: digits, orl-faces, cars196",
    ]
    assert lines[lines.index("cars196") + 1].startswith("  not tested: not on this machine: ")
    assert max(map(len, lines)) <= WIDTH + 4
    assert sum(line.startswith("  1  ") for line in lines) == 3
