import json
from pathlib import Path

import numpy as np
import pytest

from tests.diagnosis.two_tables.tables import pair_tables, write_ids
from tests.support.command_line import run_cli

FILES = ("diagnose", "queries.npz", "--corpus", "corpus.npz")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queries, documents, right = pair_tables(noise=1.2)
    write_ids("queries.npz", queries, "<u>q")
    write_ids("corpus.npz", documents, "d")
    turned = queries + 0.3 * np.random.default_rng(9).normal(size=queries.shape)
    write_ids("other.npz", turned, "<u>q")
    Path("qrels.tsv").write_text("".join(f"<u>q{q}\td{d}\t1\n" for q, d in right))
    return tmp_path


def test_two_files_are_described_line_by_line(place):
    done = run_cli(*FILES, "--judgements", "qrels.tsv")
    assert (done.returncode, done.stderr) == (0, "")
    starts = [line.split(":")[0].split(" ")[0] for line in done.stdout.splitlines()]
    assert starts[:9] == [
        *("60", "retrieval", "right", "thresholds", "best"),
        *("modality", "space", "space", "hubness"),
    ]
    assert "  query <u>q" in done.stdout


def test_json_a_page_and_another_model(place):
    again = ("--against", "other.npz", "--against-corpus", "corpus.npz")
    done = run_cli(*FILES, "--judgements", "qrels.tsv", *again, "--json", "--page", "page.html")
    found = json.loads(done.stdout)
    assert found["judgements"]["query_count"] == 60
    assert found["judged"][0]["ndcg_at_10"].keys() == {"mean", "half_width", "over", "missing"}
    assert found["against"]["got_worse"][0]["after"] < found["against"]["got_worse"][0]["before"]
    assert found["failures_count"] == len(found["failures"]) > 0
    html = Path("page.html").read_text(encoding="utf-8")
    assert "Queries that got worse" in html
    assert "Queries without a right document among the first 10" in html
    assert "&lt;u&gt;q" in html
    assert "<u>q" not in html
    assert "<script" not in html


def test_the_exit_code_says_whether_a_finding_has_the_level(place):
    with np.load("corpus.npz") as file:
        rows, ids = file["embeddings"], file["ids"]
    np.savez("shuffled.npz", embeddings=rows, ids=np.random.default_rng(0).permutation(ids))
    shuffled = ("diagnose", "queries.npz", "--corpus", "shuffled.npz")
    done = run_cli(*shuffled, "--judgements", "qrels.tsv", "--fail-on", "act")
    assert done.returncode == 1
    assert "act: right-not-nearer" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("diagnose", "queries.npz", "--judgements", "qrels.tsv"), "--judgements needs a second"),
        (("diagnose", "queries.npz", "--against-corpus", "corpus.npz"), "give --corpus"),
        ((*FILES, "--judgements", "none.tsv"), "none.tsv must be a file with judgements"),
        (
            (*FILES, "--against", "other.npz"),
            "--against and --against-corpus",
        ),
        ((*FILES, "--against", "corpus.npz", "--against-corpus", "corpus.npz"), "same rows"),
    ],
)
def test_a_mistake_is_one_clear_line(place, arguments, words):
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
