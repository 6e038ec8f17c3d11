"""Findings about queries and documents: each has its planted fault, and healthy tables have none."""

from __future__ import annotations

import numpy as np
import pytest

import lossgauge as lg
from lossgauge.diagnostics.modality_gap import ModalityGap
from lossgauge.health.retrieval import retrieval_findings
from tests.diagnosis.two_tables.tables import pair_tables

NEW = (
    *("right-not-nearer", "modality-gap", "hub-documents"),
    *("repeated-documents", "queries-in-corpus", "unjudged-copies"),
)


def levels(queries, documents, judgements):
    found = lg.diagnose(queries, corpus=documents, judgements=judgements).findings
    return {one.name: one for one in found}


@pytest.mark.parametrize("seed", range(3))
def test_healthy_tables_have_every_check_and_no_finding(seed):
    found = levels(*pair_tables(documents=400, seed=seed))
    assert set(NEW) <= set(found)
    assert {one.level for one in found.values()} == {"ok"}


def another_model(queries, documents, right):
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))
    return queries @ turn.astype(np.float32), documents, right


def other_rows(queries, documents, right):
    return queries, documents[np.random.default_rng(0).permutation(len(documents))], right


def apart(queries, documents, right):
    shift = np.eye(16, dtype=np.float32)[0]
    return queries + shift, documents - shift, right


def boilerplate(queries, documents, right):
    documents = documents.copy()
    documents[100] = queries.mean(axis=0)
    return queries + 3 * documents[100], documents, right


def repeated(queries, documents, right):
    documents = documents.copy()
    documents[300:360] = documents[200]
    return queries, documents, right


def queries_as_documents(queries, documents, right):
    return queries, np.concatenate([documents, queries[:10], queries[:10]]), right


def copies_of_right_ones(queries, documents, right):
    return queries, np.concatenate([documents, documents[:10]]), right


@pytest.mark.parametrize(
    ("fault", "name", "level"),
    [
        (another_model, "right-not-nearer", "act"),
        (other_rows, "right-not-nearer", "act"),
        (apart, "modality-gap", "watch"),
        (boilerplate, "hub-documents", "act"),
        (repeated, "repeated-documents", "act"),
        (queries_as_documents, "queries-in-corpus", "act"),
        (copies_of_right_ones, "unjudged-copies", "act"),
    ],
)
def test_a_planted_fault_is_found(fault, name, level):
    found = levels(*fault(*pair_tables(documents=400)))
    assert found[name].level == level
    assert found[name].why
    assert found[name].advice
    others = {one for one in NEW if found[one].level == "act"} - {name}
    assert not others


def test_the_copies_and_the_hub_are_named():
    found = levels(*queries_as_documents(*pair_tables(documents=400)))
    assert "10 of 60 queries equal" in found["queries-in-corpus"].evidence
    assert "0 = 400, 1 = 401" in found["queries-in-corpus"].evidence
    assert (
        "document 100 is"
        in levels(*boilerplate(*pair_tables(documents=400)))["hub-documents"].evidence
    )
    copied = levels(*copies_of_right_ones(*pair_tables(documents=400)))["unjudged-copies"]
    assert "10 of 60 queries have a right document with a copy" in copied.evidence


def test_copies_that_are_judged_right_are_no_finding():
    queries, documents, right = copies_of_right_ones(*pair_tables(documents=400))
    more = np.stack([np.arange(10), np.arange(400, 410)], axis=1)
    found = levels(queries, documents, np.concatenate([right, more]))
    assert found["unjudged-copies"].level == "ok"
    assert levels(documents[:60], documents[:400], right)["queries-in-corpus"].level == "ok"


def test_a_document_that_is_right_for_many_is_no_hub():
    queries, documents, right = boilerplate(*pair_tables(documents=400))
    more = np.stack([np.arange(60), np.full(60, 100)], axis=1)
    found = levels(queries, documents, np.concatenate([right, more]))["hub-documents"]
    assert found.level != "act"
    assert "document 100 " not in found.evidence


@pytest.mark.parametrize(("share", "level"), [(0.199, "ok"), (0.201, "watch"), (1.0, "watch")])
def test_the_limit_of_the_gap_is_a_fifth(share, level):
    gap = ModalityGap(distance=0.5, share=share, between=0.1)
    found = retrieval_findings(
        gap=gap,
        thresholds=None,
        found=None,
        most_found="",
        repeated=0,
        documents=10,
        equal=(),
        unjudged_copies=None,
        judged_queries=0,
        queries=10,
    )
    assert {one.name: one.level for one in found}["modality-gap"] == level


def test_few_rows_are_not_judged_by_gap_and_hubs():
    found = levels(*pair_tables(queries=10, documents=15))
    assert not {"modality-gap", "hub-documents"} & set(found)
