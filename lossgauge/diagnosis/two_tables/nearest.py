"""The nearest documents of queries, exact, in blocks of both tables: rows that are on disk stay there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lossgauge.diagnosis.sampling import LEAST_QUERIES, SEARCH_BUDGET
from lossgauge.diagnosis.source import Source
from lossgauge.diagnosis.two_tables.side import Side
from lossgauge.ranking.centering import centered_directions
from lossgauge.ranking.query_set import QuerySet
from lossgauge.ranking.scores import Similarity, norms_and_directions, similarities
from lossgauge.ranking.search import neighbor_blocks

DEPTH = 100
"""Documents that are found for each query: enough for Recall@100."""
BLOCK_NUMBERS = 2**22
"""Numbers of documents that are held at a time, in float64 and float32: about 200 MB."""
QUERY_NUMBERS = 2**21
_PAIRS = 4096


Centers = tuple[Float64[Tensor, " width"], Float64[Tensor, " width"]]
"""Of the queries, and of the documents."""


class Nearest(NamedTuple):
    """Queries with their nearest documents. Rows are numbers in their tables."""

    rows: Int64[np.ndarray, " queries"]
    """Ascending."""
    documents: Int64[np.ndarray, "queries k"]
    """The nearest first; of equal ones the lower number. k is 100, or the number of documents."""
    similarity: Float64[np.ndarray, "queries k"]
    """Cosines, or dot products."""
    searched: int
    """Documents that were searched."""


def query_budget(documents: Side, asked: int | None) -> int:
    """How many queries are searched for at most: as many as take some seconds, and 128 at least."""
    return asked or max(SEARCH_BUDGET // (documents.row_count * documents.width), LEAST_QUERIES)


def nearest_documents(
    queries: Source,
    rows: Int64[np.ndarray, " queries"],
    documents: Source,
    known: Int64[np.ndarray, " documents"],
    *,
    similarity: Similarity = "cosine",
    centers: Centers | None = None,
) -> Nearest:
    """The 100 nearest of the `known` documents for each of the query `rows`; neither may hold a row of zeros.

    `centers` are subtracted from the directions of the queries and of the documents, whose cosines are then compared.
    Time grows as queries × documents × width. Memory is 200 MB, and 2.4 kB for each query; queries × documents are never held.
    """
    k = min(DEPTH, len(known))
    of_query, of_document = centers or (None, None)
    found, scores = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
    for start, of_queries in _blocks(queries, rows, QUERY_NUMBERS, similarity, of_query):
        best: tuple[np.ndarray, np.ndarray] | None = None
        for first, of_documents in _blocks(
            documents, known, BLOCK_NUMBERS, similarity, of_document
        ):
            numbers = known[first : first + len(of_documents)]
            part = _block(of_queries, of_documents, numbers, similarity)
            best = part if best is None else _merged(best, part)
        assert best is not None
        end = start + len(of_queries)
        found[start:end], scores[start:end] = best
    return Nearest(rows, found, scores, len(known))


def _blocks(
    source: Source,
    rows: Int64[np.ndarray, " rows"],
    numbers: int,
    similarity: Similarity,
    center: Float64[Tensor, " width"] | None,
) -> Iterator[tuple[int, Float64[Tensor, "some width"]]]:
    size = max(1, numbers // source.width)
    for start in range(0, len(rows), size):
        block = source.rows(rows[start : start + size])
        if similarity == "cosine":
            block = norms_and_directions(block)[1]
        if center is not None:
            block = centered_directions(block, center)
        yield start, block


def _block(
    queries: Float64[Tensor, "queries width"],
    documents: Float64[Tensor, "documents width"],
    numbers: Int64[np.ndarray, " documents"],
    similarity: Similarity,
) -> tuple[Int64[np.ndarray, "queries k"], Float64[np.ndarray, "queries k"]]:
    """The nearest of one block of documents, in their exact order, and their similarities."""
    count, k = len(documents), min(DEPTH, len(documents))
    every = torch.full((len(queries),), count)
    of = QuerySet(
        torch.cat([documents, queries]), torch.arange(len(queries)) + count, count, (), every
    )
    found = torch.empty(len(queries), k, dtype=torch.int64)
    depth = every.clamp(max=k)
    blocks = neighbor_blocks(of, torch.arange(len(queries)), counts=depth, similarity=similarity)
    for block in blocks:
        found[block.queries] = block.columns[:, :k]
    query = torch.arange(len(queries)).repeat_interleave(k)
    scores = [
        similarities(queries[one], documents[other], "dot")  # the rows are directions for a cosine
        for one, other in zip(query.split(_PAIRS), found.flatten().split(_PAIRS), strict=True)
    ]
    return numbers[found.numpy()], torch.cat(scores).reshape(len(queries), k).numpy()


def _merged(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The best of two blocks; of equal ones the lower number."""
    rows, scores = (np.concatenate(parts, axis=1) for parts in zip(one, other, strict=True))
    order = np.lexsort((rows, -scores), axis=1)[:, :DEPTH]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
