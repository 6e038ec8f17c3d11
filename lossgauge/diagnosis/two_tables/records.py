"""What a diagnosis of two tables contains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from lossgauge.diagnosis.records import MOST_ROWS, plain
from lossgauge.diagnosis.two_tables.nearest import Nearest
from lossgauge.diagnosis.two_tables.side import Side
from lossgauge.diagnostics.found_documents import FoundDocuments
from lossgauge.diagnostics.modality_gap import ModalityGap
from lossgauge.diagnostics.pair_thresholds import PairThresholds
from lossgauge.health.finding import Finding
from lossgauge.stats.intervals import Interval
from lossgauge.types import Record

if TYPE_CHECKING:
    from lossgauge.diagnosis.two_tables.comparison import RetrievalComparison


class PerQuery(NamedTuple):
    """One entry for each query with a right document, by ascending row."""

    row: Int64[np.ndarray, " queries"]
    cluster: Int64[np.ndarray, " queries"]
    """Queries that right documents connect have the same number. Intervals are over new clusters, as in a study."""
    ndcg_at_10: Float64[np.ndarray, " queries"]
    reciprocal_rank_at_10: Float64[np.ndarray, " queries"]
    found_at: dict[int, Float64[np.ndarray, " queries"]]
    """k → share of the right documents of the query among its first k."""
    hit_at: dict[int, Float64[np.ndarray, " queries"]]
    """k → 1 if a right document is among its first k, else 0."""


class Judged(NamedTuple):
    """Retrieval by one similarity; intervals are over new queries, where those that right documents connect count as one."""

    similarity: str
    """`cosine`, or `dot` where the norms of the documents differ."""
    ndcg_at_10: Interval
    mrr_at_10: Interval
    found_at: dict[int, Interval]
    """k → Recall@k of information retrieval: share of a query's right documents among its first k."""
    recall_at: dict[int, Interval]
    """k → share of queries with a right document among the first k: the hit rate."""
    query_count: int
    group_count: int
    """Groups of queries that right documents connect: what the intervals draw again."""


class Centered(NamedTuple):
    """Retrieval by cosine after the mean of its side is subtracted from each direction."""

    judged: Judged
    ndcg_at_10: Interval
    """The change, paired by query."""
    query_mean: str
    """Which queries the mean of their side is over: `the 12 training queries`, where the file says which they are, else `all 24 queries`."""


class Failure(NamedTuple):
    """A query none of whose right documents is among its ten nearest."""

    query: str
    """Its id, or its row number where the table has no ids; documents are named in the same way."""
    right: str
    """The nearest of its right documents."""
    similarity: float
    """The cosine of the two; NaN if the document is all zeros."""
    rank: int | None
    """The rank of that document; None beyond the first 100."""
    nearer: tuple[str, ...]
    """The first documents that are before it."""
    nearer_similarity: tuple[float, ...]


class JudgementCounts(NamedTuple):
    """How much is judged."""

    pair_count: int
    right_count: int
    """Pairs with a grade above 0."""
    query_count: int
    """Queries with a right document."""
    without: int
    """Queries without a right document; they are in no number that needs one."""


@dataclass(frozen=True)
class RetrievalDiagnosis:
    """All that was measured of queries and documents. A part is None if it needs judgements or more rows than there are."""

    queries: Side
    documents: Side
    notes: tuple[str, ...]
    """One line for each thing that was left out or is doubtful."""
    judgements: JudgementCounts | None
    searched_queries: int
    """Queries that were compared with all documents."""
    judged: tuple[Judged, ...]
    """By cosine first; empty without judgements."""
    alignment: float | None
    """Mean ‖q − d‖² of normalised queries and their right documents, in [0, 4]; Wang and Isola 2020."""
    thresholds: PairThresholds | None
    """On cosines of right and other documents."""
    centered: Centered | None
    """Measured where a finding advises it: what it would change. None where a side is centered already."""
    gap: ModalityGap
    found: FoundDocuments | None
    """Hubness of the documents; None below 20 queries or documents."""
    most_found: str
    """The document that is found most often though it is not right; empty without `found`."""
    equal: tuple[tuple[str, str], ...]
    """Queries with a document of the same numbers that is not judged right: the first of each query."""
    unjudged_copies: tuple[str, ...] | None
    """Queries whose right document has a copy that is not judged right for them."""
    failures: tuple[Failure, ...]
    """The queries that fail, those that miss by most first."""
    findings: tuple[Finding, ...]
    """The worst first."""
    nearest: Nearest = field(repr=False)
    per_query: PerQuery | None = field(repr=False)
    query_ids: np.ndarray | None = field(repr=False)
    document_ids: np.ndarray | None = field(repr=False)
    against: RetrievalComparison | None = None
    """What changed from these tables to the same rows of another model."""

    @property
    def name(self) -> str:
        return f"{self.queries.name} against {self.documents.name}"

    @property
    def plain(self) -> Record:
        """As JSON can represent it: NaN is None, and lists of queries end after 1,000."""
        hidden = ("nearest", "per_query", "query_ids", "document_ids")
        given: Record = {
            of.name: plain(getattr(self, of.name)) for of in fields(self) if of.name not in hidden
        }
        for side in ("queries", "documents"):
            given[side]["geometry"].pop("per_class")
        for name in ("equal", "unjudged_copies", "failures"):
            if given[name] is not None:
                given[f"{name}_count"] = len(given[name])
                given[name] = given[name][:MOST_ROWS]
        return given

    def lines(self) -> Iterator[str]:
        """The diagnosis in words, line by line."""
        from lossgauge.diagnosis.two_tables.sentences import lines

        return lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())
