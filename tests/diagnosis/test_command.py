import json
from pathlib import Path

import numpy as np
import pytest

from tests.diagnosis.tables import table
from tests.support.command_line import run_cli


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, labels = table(noise=0.3)
    np.savez("good.npz", embeddings=rows, labels=labels)
    np.savez("cone.npz", embeddings=rows + 2, labels=labels)
    Path("junk.npz").write_bytes(b"junk")
    return tmp_path


def test_a_file_is_described_line_by_line(place):
    done = run_cli("diagnose", "good.npz")
    assert (done.returncode, done.stderr) == (0, "")
    starts = [line.split(":")[0].split(" ")[0] for line in done.stdout.splitlines()]
    assert starts[:4] == ["200", "retrieval", "geometry", "spectrum"]
    assert "no known problem found" in done.stdout
    assert run_cli("check", "good.npz").stdout == done.stdout


def test_json_has_all_numbers_and_findings(place):
    done = run_cli("diagnose", "cone.npz", "--json", "--page", "page.html")
    found = json.loads(done.stdout)
    assert found["row_count"] == 200
    assert {finding["name"] for finding in found["findings"]} >= {"cone", "label-errors", "copies"}
    assert found["ranked"][0]["recall_at"]["1"].keys() == {
        *("mean", "half_width", "over", "missing")
    }
    assert done.stderr.strip() == "page: page.html"


@pytest.mark.parametrize(
    ("file", "level", "code"),
    [("good.npz", "watch", 0), ("cone.npz", "act", 1), ("cone.npz", "watch", 1)],
)
def test_the_exit_code_says_whether_a_finding_has_the_level(place, file, level, code):
    assert run_cli("diagnose", file, "--fail-on", level).returncode == code


def test_with_another_table_its_findings_decide_the_exit_code(place):
    assert (
        run_cli("diagnose", "good.npz", "--against", "cone.npz", "--fail-on", "act").returncode == 1
    )
    assert (
        run_cli("diagnose", "cone.npz", "--against", "good.npz", "--fail-on", "act").returncode == 0
    )


def test_the_page_is_one_file_that_shows_hostile_names_as_text(place):
    rows, labels = table(noise=1.5)
    words = np.array([f"<script>alert({label})</script>\u202e" for label in labels])
    np.savez("hostile.npz", embeddings=rows, labels=words)
    done = run_cli("diagnose", "hostile.npz", "--against", "hostile.npz", "--page", "page.html")
    assert done.returncode == 0, done.stderr
    html = Path("page.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;alert(3)" in html
    assert "\u202e" not in html
    for heading in (
        "Is this normal?",
        "Thresholds on the cosine",
        "Classes that are taken for each other",
    ):
        assert heading in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert (
        run_cli("diagnose", "good.npz", "--page", "page.html").returncode == 0
    )  # a page is replaced
    assert "refuses" not in run_cli("diagnose", "good.npz", "--page", "good.npz").stdout
    assert run_cli("diagnose", "good.npz", "--page", "good.npz").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.npz",), "none.npz cannot be read"),
        (("junk.npz",), "it is not a .npz file; write it with numpy.savez"),
        (("good.npz", "--fail-on", "bad"), "--fail-on takes watch or act, got 'bad'"),
        (("good.npz", "--engine", "dask"), "engine must be local or ray, got 'dask'"),
        (("good.npz", "--embeddings-name", "z"), "--embeddings-name"),
        (("good.npz", "--queries", "0"), "at least 1, got 0"),
        (("good.npz", "--against", "none.npz"), "none.npz cannot be read"),
    ],
)
def test_a_mistake_is_one_clear_line(place, arguments, words):
    done = run_cli("diagnose", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
