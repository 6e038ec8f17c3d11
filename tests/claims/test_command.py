"""`lossgauge claims` and `--claims`, on a made-up study that needs no folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossgauge.claims.statements import CLAIMS
from lossgauge.results import reader
from lossgauge.results.view import StudyView
from tests.support.command_line import assert_refused, run_cli
from tests.support.made_up_study import make_results

OWN = """
claims:
  - claim: CCL is ahead.
    losses: ccl
    than: scl
    column: map_at_r
    direction: higher
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is read as the made-up study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader, "read_study", lambda _: StudyView(make_results()))
    Path("own.yaml").write_text(OWN)
    return tmp_path


def test_the_records_are_printed_as_lines_and_as_json(folder):
    shown = run_cli("claims", folder)
    assert shown.returncode == 0, shown.stderr
    assert "over 3 datasets: digits, orl-faces, cars196" in shown.stdout
    done = run_cli("claims", folder, "--json", "--claims", "own.yaml")
    records = json.loads(done.stdout)
    assert len(records) == 4 * (len(CLAIMS) + 1)
    done = run_cli("claims", folder, "--json", "--claims", "own.yaml", "--claims", "own.yaml")
    assert len(json.loads(done.stdout)) == 4 * (len(CLAIMS) + 2)
    assert records[len(CLAIMS)]["claim"] == "CCL is ahead."
    assert {"claim", "verdict", "effect", "interval", "datasets", "reason", "members"} <= records[
        0
    ].keys()


def test_it_fails_on_a_verdict_that_is_there(folder):
    verdicts = {r["verdict"] for r in json.loads(run_cli("claims", folder, "--json").stdout)}
    assert verdicts >= {"not tested", "supported"}
    for verdict in ("supported", "contradicted", "mixed", "undecided", "not tested"):
        done = run_cli("claims", folder, "--fail-on", verdict)
        assert done.returncode == (1 if verdict in verdicts else 0), verdict
        assert "digits" in done.stdout
    given = ("--fail-on", "supported", "--fail-on", "undecided")
    assert run_cli("claims", folder, *given).returncode == 1


def test_a_mistake_is_one_line(folder):
    Path("bad.yaml").write_text(OWN.replace("ccl", "cccl"))
    assert_refused(run_cli("claims", folder, "--claims", "bad.yaml"), "did you mean 'ccl'?")
    Path("bad.yaml").write_text(OWN.replace("map_at_r", "map_at"))
    assert_refused(run_cli("claims", folder, "--claims", "bad.yaml"), "did you mean 'map_at_r'?")
    assert_refused(run_cli("report", folder, "--claims", "bad.yaml"), "did you mean 'map_at_r'?")
    assert_refused(
        run_cli("claims", folder, "--claims", "none.yaml"), "there is no file 'none.yaml'"
    )
    assert_refused(
        run_cli("claims", folder, "--fail-on", "contradict"), "did you mean 'contradicted'?"
    )


def test_the_page_has_the_claims_of_a_file(folder):
    assert run_cli("report", folder, "--claims", "own.yaml", "--out", "page.html").returncode == 0
    assert "CCL is ahead." in Path("page.html").read_text()
    assert run_cli("report", folder, "--out", "page.html").returncode == 0
    assert "CCL is ahead." not in Path("page.html").read_text()
