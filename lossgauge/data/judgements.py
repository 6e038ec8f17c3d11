"""Queries and documents as rows: which document is right for which query, and which is a hard negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from lossgauge.data.locations import first_few
from lossgauge.errors import DataError
from lossgauge.types import PairRows


class Judged(NamedTuple):
    """Judgements and hard negatives; queries and documents are numbered from 0, each side apart."""

    query_text: Int[np.ndarray, " queries"]
    """The number of the text of each query: equal texts have one number, on both sides."""
    document_text: Int[np.ndarray, " documents"]
    query: Int[np.ndarray, " judged"]
    document: Int[np.ndarray, " judged"]
    grade: Float[np.ndarray, " judged"]
    negative_query: Int[np.ndarray, " negatives"]
    negative_document: Int[np.ndarray, " negatives"]


def pair_rows(of: Judged) -> PairRows:
    """The same as rows of a feature set: first all queries, then all documents. Each judgement once, with its highest grade."""
    count = len(of.query_text)
    order = np.lexsort((-of.grade, of.document, of.query))
    query, document, grade = of.query[order], of.document[order], of.grade[order]
    first = np.ones(len(query), dtype=bool)
    first[1:] = (query[1:] != query[:-1]) | (document[1:] != document[:-1])
    negatives = np.unique(np.stack((of.negative_query, of.negative_document), axis=1), axis=0)
    negatives = negatives.reshape(-1, 2)
    return PairRows(
        corpus=torch.arange(count, count + len(of.document_text)),
        query=_rows(query[first]),
        document=_rows(document[first] + count),
        grade=torch.from_numpy(grade[first].astype(np.float32)),
        negative_query=_rows(negatives[:, 0]),
        negative_document=_rows(negatives[:, 1] + count),
        text=_rows(np.concatenate((of.query_text, of.document_text))),
    )


def check_negatives(pairs: PairRows, name_of: Callable[[int], str]) -> None:
    """DataError if a document is right for a query and its hard negative at once, also as two rows of one text.

    `name_of` gives the place of a row in the user's files.
    """
    right = pairs.grade > 0
    texts = int(pairs.text.max()) + 1
    positive = (pairs.query * texts + pairs.text[pairs.document])[right].numpy()
    negative = (pairs.negative_query * texts + pairs.text[pairs.negative_document]).numpy()
    both = np.flatnonzero(np.isin(negative, positive))
    if len(both):
        query = int(pairs.negative_query[both[0]])
        document = int(pairs.negative_document[both[0]])
        raise DataError(
            f"a text must not be right for a query and its negative at once, but {name_of(document)} is both for "
            f"{name_of(query)} ({len(both):,} such negatives): remove it from one of them"
        )


def pair_notes(pairs: PairRows, id_of: Callable[[int], str]) -> tuple[str, ...]:
    """One line for each doubtful thing about the judgements: what would be a false negative, and what is too easy."""
    notes = []
    right = pairs.grade > 0
    query, document = pairs.query[right], pairs.document[right]
    texts, counts = pairs.text[document].unique(return_counts=True)
    shared = texts[counts > 1]
    if len(shared):
        affected = len(query[torch.isin(pairs.text[document], shared)].unique())
        notes.append(
            f"{len(shared):,} texts are right for several queries ({affected:,} queries have one): in a batch such a text is not "
            "used as a negative of these queries"
        )
    same = query[pairs.text[query] == pairs.text[document]].unique()
    if len(same):
        names = first_few([id_of(int(row)) for row in same])
        notes.append(f"{len(same):,} queries have the same text as a right document: {names}")
    repeated = len(pairs.corpus) - len(pairs.text[pairs.corpus].unique())
    if repeated:
        notes.append(f"{repeated:,} documents repeat the text of another document")
    return tuple(notes)


def _rows(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64))
