import json
import re
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
        (
            ("good.npz", "--page", "."),
            ". is a folder, and a report can only replace a regular file; give another path (--page)",
        ),
        (("good.npz", "--page", "junk.npz"), "delete it, or give another path (--page)"),
        (("good.npz", "--queries", "0"), "at least 1, got 0"),
        (("good.npz", "--seed", "-1"), "seed must be a whole number from 0 to 2^63 - 1, got -1"),
        (("good.npz", "--against", "none.npz"), "none.npz cannot be read"),
    ],
)
def test_a_mistake_is_one_clear_line(place, arguments, words):
    done = run_cli("diagnose", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_rows_are_named_by_their_ids_where_the_file_has_them(place):
    rows, labels = table(noise=0.3)
    generator = np.random.default_rng(1)
    worse = rows + generator.normal(0, 0.6, rows.shape)
    worse[7] = worse[3]
    ids = np.array([f"photo-{number}.jpg" for number in range(len(rows))])
    np.savez("a.npz", embeddings=rows, labels=labels, ids=ids)
    np.savez("b.npz", embeddings=worse, labels=labels)
    numbers = run_cli("diagnose", "good.npz", "--against", "b.npz").stdout
    named = run_cli("diagnose", "a.npz", "--against", "b.npz", "--page", "page.html").stdout
    start = "worst first: rows "
    (first,) = (line for line in numbers.splitlines() if start in line)
    (second,) = (line for line in named.splitlines() if start in line)
    asked = first.split(start)[1].split(", ")
    assert second.split(start)[1].split(", ") == [f"photo-{row}.jpg" for row in asked]
    assert re.search(r"most: rows photo-\d+.jpg, ", named)
    assert f"photo-{asked[0]}.jpg" in Path("page.html").read_text(encoding="utf-8")
    copies = run_cli("diagnose", "b.npz").stdout
    assert "row 7 equals row 3" in copies
    np.savez("c.npz", embeddings=worse, labels=labels, ids=ids)
    findings = run_cli("diagnose", "c.npz").stdout
    assert "row photo-7.jpg equals row photo-3.jpg" in findings
    assert "the first of all copies: rows photo-7.jpg" in findings
    queries, corpus = rows[:40], rows[40:]
    np.savez("q.npz", embeddings=queries, ids=ids[:40])
    np.savez("d.npz", embeddings=corpus)
    np.savez("q2.npz", embeddings=worse[:40])
    done = run_cli(
        *("diagnose", "q.npz", "--corpus", "d.npz"),
        *("--against", "q2.npz", "--against-corpus", "d.npz"),
    )
    assert re.search(r"documents are new; most: photo-\d+.jpg, ", done.stdout), done.stdout
