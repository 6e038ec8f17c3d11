"""nDCG@10, MRR@10 and Recall@k of queries against documents: by ir-measures, by a loop, ties and limits."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import RR, R, ScoredDoc, nDCG

import lossgauge as lg
from lossgauge.errors import InputError


def task(seed: int, *, queries: int = 30, documents: int = 140, tied: bool = False):  # type: ignore[no-untyped-def]
    """Queries, documents and graded judgements; `tied` has few different similarities, all exact."""
    generator = torch.Generator().manual_seed(seed)
    if tied:
        asked, corpus = (
            torch.randint(-1, 2, (count, 3), generator=generator).double()
            for count in (queries, documents)
        )
    else:
        asked, corpus = (
            torch.randn(count, 6, dtype=torch.float64, generator=generator)
            for count in (queries, documents)
        )
    judged = torch.rand(queries, documents, generator=generator) < 0.08
    judged[3] = False  # a query without judgements
    judged[5] = (
        torch.rand(documents, generator=generator) < 0.95
    )  # more right ones than Recall@100 can hold
    query, document = judged.nonzero(as_tuple=True)
    grade = torch.randint(0, 4, (len(query),), generator=generator)
    shuffled = torch.randperm(len(query), generator=generator)
    return asked, corpus, query[shuffled], document[shuffled], grade[shuffled]


def by_loop(asked, corpus, left_out=()):  # type: ignore[no-untyped-def]
    """The documents of each query: similarity descending, then number ascending."""
    scores = (asked @ corpus.T).tolist()
    return [
        sorted(
            (d for d in range(len(corpus)) if (q, d) not in left_out),
            key=lambda d: (-scores[q][d], d),
        )
        for q in range(len(asked))
    ]


@pytest.mark.parametrize("tied", [False, True])
def test_by_ir_measures(tied: bool) -> None:
    for seed in range(3):
        asked, corpus, query, document, grade = task(seed, tied=tied)
        got = lg.judged_retrieval(
            asked, corpus, query=query, document=document, grade=grade, block_rows=7
        )
        judged: dict[str, dict[str, int]] = {}
        for q, d, g in zip(query.tolist(), document.tolist(), grade.tolist(), strict=True):
            judged.setdefault(str(q), {})[str(d)] = g
        judged = {q: of for q, of in judged.items() if any(of.values())}
        order = by_loop(asked, corpus)
        # distinct scores: trec_eval would break ties by the names of documents
        run = [
            ScoredDoc(str(q), str(d), float(len(corpus) - rank))
            for q, of in enumerate(order)
            for rank, d in enumerate(of)
            if str(q) in judged
        ]
        wanted = {nDCG @ 10, RR @ 10, R @ 1, R @ 10, R @ 100}
        found = {
            (str(m.measure), m.query_id): m.value
            for m in ir_measures.iter_calc(wanted, judged, run)
        }
        of = got.per_query
        assert [str(q) for q in of.query] == sorted(judged, key=int)
        for name, values in (
            ("nDCG@10", of.ndcg_at_10),
            ("RR@10", of.reciprocal_rank_at_10),
            *((f"R@{k}", of.found_at[k]) for k in (1, 10, 100)),
        ):
            expected = [found[name, str(q)] for q in of.query]
            np.testing.assert_allclose(values, expected, atol=1e-12, err_msg=name)
        assert got.ndcg_at_10 == pytest.approx(np.mean(of.ndcg_at_10), abs=1e-15)
        assert got.skipped_count == len(asked) - len(judged)


def test_ranks_and_nearest_documents_by_a_loop() -> None:
    for seed, tied in ((0, False), (1, True)):
        asked, corpus, query, document, grade = task(seed, documents=150, tied=tied)
        hidden = [(0, d) for d in range(0, 150, 2)] + [(1, 7)]
        right = {
            (q, d)
            for q, d, g in zip(query.tolist(), document.tolist(), grade.tolist(), strict=True)
            if g > 0 and (q, d) not in hidden
        }
        left_out = tuple(torch.tensor(side) for side in zip(*hidden, strict=True))
        got = lg.judged_retrieval(
            *(asked, corpus),
            query=query,
            document=document,
            grade=grade,
            left_out=left_out,
        ).per_query
        orders = by_loop(asked, corpus, set(hidden))
        for at, q in enumerate(got.query.tolist()):
            hits = [(q, d) in right for d in orders[q]]
            r = sum(hits)
            assert got.right_count[at] == r
            assert got.first_right_rank[at] == hits.index(True) + 1
            assert got.nearest_right[at] == orders[q][hits.index(True)]
            assert got.nearest_wrong[at] == orders[q][hits.index(False)]
            similarity = float(asked[q] @ corpus[got.nearest_right[at]])
            assert got.nearest_right_similarity[at] == pytest.approx(similarity, abs=1e-12)
            assert got.r_precision[at] == pytest.approx(sum(hits[:r]) / r)
            ap = sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r
            assert got.ap_at_r[at] == pytest.approx(ap)


def test_a_right_document_far_down_has_its_rank() -> None:
    """Below the sorted depth the rank is counted."""
    corpus = torch.linspace(1, 0, 500, dtype=torch.float64)[:, None]
    got = lg.judged_retrieval(
        torch.ones(2, 1, dtype=torch.float64), corpus, query=[0, 1], document=[499, 0]
    )
    assert got.per_query.first_right_rank.tolist() == [500, 1]
    assert got.found_at == {1: 0.5, 10: 0.5, 100: 0.5}
    assert got.mrr_at_10 == 0.5


def test_all_documents_right_and_fewer_than_ten() -> None:
    got = lg.judged_retrieval(torch.eye(2), torch.eye(2), query=[0, 0], document=[0, 1])
    assert got.per_query.nearest_wrong.tolist() == [-1]
    assert np.isnan(got.per_query.nearest_wrong_similarity).all()
    assert got.ndcg_at_10 == got.found_at[100] == 1
    assert got.found_at[1] == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": [0, 0], "document": [1, 1]}, "query 0 and document 1 twice"),
        ({"query": [2]}, "query 2, but they are numbered from 0 to 1"),
        ({"document": [-1]}, "document -1"),
        ({"grade": [-1.0]}, "at least 0, got -1.0"),
        ({"grade": [float("nan")]}, "a finite number"),
        ({"grade": [0]}, "none of the 2 queries has a right document"),
        ({"grade": [1, 1]}, "one number for each of the 1 judgements, got 2"),
        ({"query": [0, 1]}, "one document for each query"),
        ({"query": [0.5]}, "whole numbers"),
        ({"queries": torch.eye(3)}, "the same width, got 3 and 2"),
        ({"queries": torch.tensor([[torch.nan, 0.0]])}, "finite"),
        ({"left_out": ([0], [0])}, "none of the 2 queries"),
        ({"similarity": "cosin"}, "similarity must be one of"),
    ],
)
def test_bad_input_gives_one_clear_error(change: dict[str, object], words: str) -> None:
    given = {"queries": torch.eye(2), "documents": torch.eye(2), "query": [0], "document": [0]}
    with pytest.raises(InputError, match=words):
        lg.judged_retrieval(**{**given, **change})  # type: ignore[arg-type]
