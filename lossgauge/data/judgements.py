"""Queries and documents as rows: which document is right for which query, and which is a hard negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from lossgauge.data.locations import first_few
from lossgauge.stats.number_format import counted
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


def pair_notes(pairs: PairRows, id_of: Callable[[int], str]) -> tuple[str, ...]:
    """One line for each doubtful thing about the judgements: what would be a false negative, and what is too easy.

    `id_of` gives the place or the id of a row in the user's files.
    """
    notes = []
    right = pairs.grade > 0
    query, document = pairs.query[right], pairs.document[right]
    texts, counts = pairs.text[document].unique(return_counts=True)
    shared = texts[counts > 1]
    if len(shared):
        asked = query[torch.isin(pairs.text[document], shared)].unique()
        one = len(shared) == 1
        first = document[torch.isin(pairs.text[document], shared)][0]
        notes.append(
            f"{counted(len(shared), 'text')} {'is' if one else 'are'} right for several queries ({_having(len(asked))}; for example "
            f"{id_of(int(first))}): in a batch such a text is not used as a negative of these queries"
        )
    same = query[pairs.text[query] == pairs.text[document]].unique()
    if len(same):
        names = first_few([id_of(int(row)) for row in same])
        has = "has" if len(same) == 1 else "have"
        notes.append(
            f"{counted(len(same), 'query')} {has} the same text as a right document: {names}"
        )
    numbers = pairs.text[pairs.corpus].numpy()
    once = np.unique(numbers, return_index=True)[1]
    if len(repeated := np.setdiff1d(np.arange(len(numbers)), once)):
        names = first_few([id_of(int(pairs.corpus[place])) for place in repeated])
        verb = "repeats" if len(repeated) == 1 else "repeat"
        notes.append(
            f"{counted(len(repeated), 'document')} {verb} the text of another document: {names}"
        )
    return tuple(notes)


def _having(queries: int) -> str:
    return f"{counted(queries, 'query')} {'has' if queries == 1 else 'have'} one"


def _rows(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64))
