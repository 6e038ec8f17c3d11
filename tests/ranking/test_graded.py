"""Retrieval with graded judgements against trec_eval's definitions in loops, and against ir-measures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossgauge.ranking.graded import found_grades, ideal_grades, ndcg, recall, reciprocal_rank


def judged(seed=0, *, queries=40, documents=60, k=30):
    """Found documents of queries 0, 3, 6, …, and judgements as sorted arrays and as a dict."""
    generator = np.random.default_rng(seed)
    rows = np.arange(queries) * 3
    found = np.array([generator.permutation(documents)[:k] for _ in rows])
    of = {}
    for row in rows.tolist():
        chosen = np.sort(generator.choice(documents, generator.integers(1, 15), replace=False))
        grades = generator.choice([0, 0.5, 1, 2, 3], len(chosen))
        grades[0] = 1
        of[row] = dict(zip(chosen.tolist(), grades.tolist(), strict=True))
    flat = [(row, one, grade) for row, grades in of.items() for one, grade in grades.items()]
    query, document, grade = map(np.array, zip(*flat, strict=True))
    return rows, found, query, document, grade, of


def test_every_number_equals_a_loop_over_ranks():
    rows, found, query, document, grade, of = judged()
    grades = found_grades(found, rows, query, document, grade)
    right = grade > 0
    count = np.array([(query[right] == row).sum() for row in rows])
    ideal = ideal_grades(query, grade, rows, 10)
    given = (ndcg(grades, ideal, 10), reciprocal_rank(grades, 10), recall(grades, count, 20))
    for place, row in enumerate(rows.tolist()):
        own, first, gain, hits = of[row], 0.0, 0.0, 0
        for rank, one in enumerate(found[place].tolist(), 1):
            value = own.get(one)
            assert grades[place, rank - 1] == value or (
                value is None and np.isnan(grades[place, rank - 1])
            )
            if value and rank <= 10:
                gain += value / math.log2(rank + 1)
                first = first or 1 / rank
            hits += bool(value) and rank <= 20
        best = sorted(own.values(), reverse=True)[:10]
        best = sum(value / math.log2(rank + 1) for rank, value in enumerate(best, 1))
        expected = gain / best, first, hits / sum(value > 0 for value in own.values())
        assert [one[place] for one in given] == pytest.approx(expected, abs=1e-12)


def test_they_are_those_of_ir_measures():
    ir_measures = pytest.importorskip("ir_measures")
    rows, found, query, document, grade, _ = judged(1)
    grade = np.ceil(grade)  # trec_eval has whole grades only
    grades = found_grades(found, rows, query, document, grade)
    count = np.array([((query == row) & (grade > 0)).sum() for row in rows])
    given = {
        "nDCG@10": ndcg(grades, ideal_grades(query, grade, rows, 10), 10),
        "RR@10": reciprocal_rank(grades, 10),
        "R@1": recall(grades, count, 1),
        "R@10": recall(grades, count, 10),
    }
    qrels = [
        ir_measures.Qrel(str(q), str(d), int(g))
        for q, d, g in zip(query.tolist(), document.tolist(), grade.tolist(), strict=True)
    ]
    run = [
        ir_measures.ScoredDoc(str(row), str(one), -float(rank))
        for row, of_row in zip(rows.tolist(), found.tolist(), strict=True)
        for rank, one in enumerate(of_row)
    ]
    measures = [ir_measures.parse_measure(name) for name in given]
    seen = 0
    for metric in ir_measures.iter_calc(measures, qrels, run):
        place = int(metric.query_id) // 3
        assert given[str(metric.measure)][place] == pytest.approx(metric.value, abs=1e-9)
        seen += 1
    assert seen == 4 * len(rows)


def test_without_a_right_document_ndcg_and_recall_are_not_defined():
    found = np.array([[0, 1]])
    query, document, grade = np.array([5]), np.array([1]), np.array([0.0])
    grades = found_grades(found, np.array([5]), query, document, grade)
    assert np.array_equal(grades, [[np.nan, 0.0]], equal_nan=True)
    assert np.isnan(ndcg(grades, ideal_grades(query, grade, np.array([5]), 10), 10)).all()
    assert np.isnan(recall(grades, np.array([0]), 10)).all()
    assert reciprocal_rank(grades, 10).tolist() == [0]
