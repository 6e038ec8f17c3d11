"""Verdicts of several studies side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossgauge.claims.across_studies import across_studies, plan_differences
from lossgauge.claims.record_lines import across_lines
from lossgauge.claims.records import all_records
from lossgauge.results import reader
from lossgauge.results.view import StudyView
from lossgauge.types import Results
from tests.support.command_line import run_cli
from tests.support.made_up_study import make_results


def squared() -> Results:
    """The made-up study, where contrastive keeps the most variance inside classes, and another plan."""
    made = make_results(("digits",), ("contrastive", "triplet", "info_nce", "scl"))
    rows = [
        {**row, "test_intra": row["test_intra"] + 0.8} if row["base"] == "contrastive" else row
        for row in made.summaries
    ]
    triplet = {"name": "triplet", "settings": {"power": 1}}
    losses = [triplet if loss["name"] == "triplet" else loss for loss in made.plan["losses"]]
    plan = {**made.plan, "losses": losses, "sampler": "drawn", "tune": None, "question": "Other?"}
    return made._replace(summaries=rows, plan=plan)


@pytest.fixture(scope="module")
def views() -> tuple[StudyView, StudyView]:
    return StudyView(make_results()), StudyView(squared())


def test_each_claim_on_each_dataset_has_the_verdict_of_each_study(views):
    records = [all_records(view) for view in views]
    rows = {(row.dataset, row.key): row for row in across_studies(records)}
    own = [
        {
            (r.datasets[0], r.key): r.verdict
            for r in of
            if not r.members or r.members[0]["kind"] != "dataset"
        }
        for of in records
    ]
    assert rows.keys() == own[0].keys() | own[1].keys()
    for place, row in rows.items():
        assert row.of_studies == tuple(of.get(place) for of in own), place
    assert rows["digits", "1"].of_studies == ("supported", "mixed")
    assert rows["digits", "1"].differs
    assert rows["orl-faces", "1"].of_studies == ("supported", None)
    assert not rows["orl-faces", "1"].differs
    assert rows["digits", "6"].of_studies[1] == "not tested"
    assert not rows["digits", "6"].differs


def test_what_differs_between_the_plans_is_named_once(views):
    differences = plan_differences(views)
    assert differences == {
        "losses": (
            "contrastive, triplet, n_pair, info_nce, arcface, scl, ccl",
            "contrastive, triplet(power=1), info_nce, scl",
        ),
        "sampler": ("none", "drawn"),
    }
    assert plan_differences([views[0], views[0]]) == {}


def test_the_table_marks_the_verdicts_that_differ(views):
    rows = across_studies([all_records(view) for view in views])
    lines = list(across_lines(rows, ["a", "b/c"], plan_differences(views)))
    assert lines[:2] == ["1  a", "2  b/c"]
    assert "   sampler: none in 1; drawn in 2" in lines
    assert "  claim 1   supported     mixed  differs" in lines
    assert "  claim 1   supported     –" in lines  # orl-faces, which the second study does not have
    count = sum(row.differs for row in rows)
    of = sum(len(row.tested) == 2 for row in rows)
    assert f"verdicts that differ between the studies: {count} of {of}" in lines


def test_a_command_with_two_folders_compares_them(views, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_folder = dict(zip(("first", "second"), views, strict=True))
    monkeypatch.setattr(reader, "read_study", lambda folder: of_folder[Path(folder).name])
    shown = run_cli("claims", "first", "second")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "  claim 1   supported     mixed  differs" in shown.stdout
    records = json.loads(run_cli("claims", "first", "second", "--json").stdout)
    assert {record["study"] for record in records} == {"first", "second"}
    assert run_cli("claims", "first", "second", "--fail-on", "mixed").returncode == 1
