"""Hubness between two sets: documents that are found for very many queries, and documents that none finds.

Radovanović, Nanopoulos, Ivanović 2010 (JMLR 11) for hubs and the k-occurrence; here the occurrences are counted over queries.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Bool, Int
from scipy import stats
from torch import Tensor

from lossgauge.errors import InputError

CHANCE = 0.01


class FoundDocuments(NamedTuple):
    """How unevenly documents are found. N_k of a document: how many queries have it among their k nearest."""

    k: int
    skew: float
    """Third standardised moment of N_k over the documents. It grows with the number of documents; NaN if all are found equally often."""
    never_found: float
    """Share of documents with N_k = 0, in [0, 1]."""
    never_found_by_chance: float
    """The same if every query found k documents at random: (1 − k/documents)^queries."""
    most_found: int
    """The largest number of queries that find one document for which it is not right."""
    most_by_chance: int
    """If every query found k documents at random, `most_found` would be larger than this once in a hundred times at most."""
    most_found_row: int
    """That document, as its place among the documents; the first one of several."""
    query_count: int
    document_count: int

    @property
    def share(self) -> float:
        """Share of the queries that find the document `most_found_row` without need, in [0, 1]."""
        return self.most_found / self.query_count

    @property
    def excess(self) -> float:
        """How much that share is above the largest one that chance gives; negative if it is not."""
        return (self.most_found - self.most_by_chance) / self.query_count


def found_documents(
    neighbors: Int[Tensor, "queries k"],
    document_count: int,
    right: Bool[Tensor, "queries k"] | None = None,
) -> FoundDocuments:
    """From the `k` nearest documents of each query, as numbers from 0; `right` says which of them are right. Linear in queries × k + documents.

    Raises InputError without a query or a neighbour, or if a neighbour is not the number of a document.
    """
    queries, k = neighbors.shape
    if queries == 0 or k == 0:
        raise InputError(
            f"hubness needs queries and neighbours, got shape {tuple(neighbors.shape)}"
        )
    low, high = int(neighbors.min()), int(neighbors.max())
    if low < 0 or high >= document_count:
        raise InputError(
            f"neighbours must be the numbers of the {document_count} documents, 0 to {document_count - 1}, got "
            f"{low if low < 0 else high}"
        )
    found = neighbors.flatten().bincount(minlength=document_count)
    deviation = found.double() - queries * k / document_count
    variance = float(deviation.square().mean())
    unneeded = found if right is None else neighbors[~right].bincount(minlength=document_count)
    return FoundDocuments(
        k=k,
        skew=float(deviation.pow(3).mean()) / variance**1.5 if variance > 1e-20 else math.nan,
        never_found=float((found == 0).double().mean()),
        never_found_by_chance=(1 - k / document_count) ** queries,
        most_found=int(unneeded.max()),
        most_by_chance=int(stats.binom.isf(CHANCE / document_count, queries, k / document_count)),
        most_found_row=int(unneeded.argmax()),
        query_count=queries,
        document_count=document_count,
    )
