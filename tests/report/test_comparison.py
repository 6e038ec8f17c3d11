"""`lossgauge compare`: its lines, its JSON, and what it refuses, on studies with planted differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossgauge.report.comparison import compare
from lossgauge.results import reader
from lossgauge.results.view import StudyView
from tests.claims.test_across_studies import squared
from tests.support.command_line import assert_refused, run_cli
from tests.support.made_up_study import make_results
from tests.support.planted_studies import planted_study

BEFORE = {"triplet": 0.5, "scl": 0.7, "arcface": 0.4}
AFTER = {"triplet(margin=0.5)": 0.9, "scl": 0.7, "my_loss.py:Pull": 0.4}


@pytest.fixture(scope="module")
def views() -> tuple[StudyView, StudyView]:
    later = {"environment": {"lossgauge": "0.2.0", "torch": "2.13.0"}, "plan": {"epochs": 9}}
    return planted_study(BEFORE), planted_study(AFTER, luck=1, **later)


@pytest.fixture
def folders(views, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    others = {
        "other": planted_study(BEFORE, dataset="faces", fingerprint="beef"),
        "splits": planted_study(BEFORE, fingerprint="beef"),
        "claims": StudyView(make_results()),
        "claims-2": StudyView(squared()),
    }
    of_folder = {"before": views[0], "after": views[1], **others}
    read = reader.read_study

    def read_planted(folder: Path) -> StudyView:
        return of_folder[folder.name] if folder.name in of_folder else read(folder)

    monkeypatch.setattr(reader, "read_study", read_planted)


def test_a_planted_difference_is_found_and_an_equal_loss_is_not(views):
    found = compare(*views, ("before", "after"))
    by_place = {(of.loss, of.column): of for of in found.differences}
    better = by_place["triplet → triplet(margin=0.5)", "recall_at_1"]
    assert (better.decision.side, better.paired) == ("higher", "seeds and queries")
    assert better.interval.mean == pytest.approx(better.second - better.first)
    assert better.decision.family == 2
    assert by_place["scl", "recall_at_1"].decision.side == "open"
    back = compare(views[1], views[0], ("after", "before")).differences
    assert {
        of.decision.side for of in back if "triplet" in of.loss and of.column == "map_at_r"
    } == {"lower"}


def test_the_lines_name_what_differs_and_how_it_is_paired(views):
    lines = list(compare(*views, ("be\x1b[2Jfore", "after")).lines())
    assert lines[:2] == ["1  be\\x1b[2Jfore", "2  after"]
    assert "   epochs: none in 1; 9 in 2" in lines
    assert "   lossgauge: 0.1.0 in 1; 0.2.0 in 2" in lines
    assert "   only in 1: arcface on digits" in lines
    assert "   only in 2: my_loss.py:Pull on digits" in lines
    assert "digits: 2 minus 1, paired by seed and by query" in lines
    row = next(line for line in lines if line.startswith("  scl"))
    assert "±" in row
    assert "*" not in row
    place = lines.index("  triplet → triplet(margin=0.5)")
    assert lines[place + 1].count("*") == 2
    assert all("\x1b" not in line for line in lines)


def test_the_unpaired_and_the_same_say_so(folders):
    shown = run_cli("compare", "before", "splits").stdout
    assert "not paired: the two studies have other rows, labels or sides of the split" in shown
    same = run_cli("compare", "before", "before").stdout
    assert "the plans, versions and code of the runs are the same" in same
    assert "the same runs in both studies: triplet, arcface, scl" in same
    assert "±" not in same


def test_verdicts_that_changed_are_named(folders):
    shown = run_cli("compare", "claims", "claims-2")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "  digits, claim 1: supported → mixed: " in shown.stdout
    assert "verdicts that changed: " in shown.stdout


def test_json_has_the_numbers_of_the_lines(views, folders):
    done = run_cli("compare", "before", "after", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["studies"] == ["before", "after"]
    found = compare(*views, ("before", "after"))
    row = next(r for r in record["differences"] if r["loss"] == "scl" and r["column"] == "map_at_r")
    of = next(d for d in found.differences if d.loss == "scl" and d.column == "map_at_r").interval
    assert row["difference"] == of.mean
    assert row["interval"] == [of.low, of.high]
    assert row["over"] == "new seeds and new queries of the same classes"
    none = next(r for r in record["differences"] if r["column"] == "test_margin")
    assert (none["difference"], none["interval"], none["reason"]) == (None, None, "not measured")
    assert record["only"][0] == {"digits": ["arcface"]}


def test_a_mistake_is_one_line(folders):
    assert_refused(run_cli("compare", "before", "other"), "share no dataset", "faces")
    assert_refused(run_cli("compare", "before", "nowhere"), "does not contain a study")
    assert_refused(run_cli("compare", "before"), "Missing argument")
    assert_refused(run_cli("compare", "before", "after", "--claims", "no.yaml"), "no.yaml")


def test_studies_in_which_no_claim_is_tested_say_so():
    one, two = planted_study({"scl": 0.7}), planted_study({"scl": 0.6}, luck=1)
    lines = list(compare(one, two, ("a", "b"))._replace(verdicts=()).lines())
    assert lines[-1] == "verdicts that changed: none, because no claim is tested in both studies"
