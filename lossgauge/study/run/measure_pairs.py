"""Measurements of a space of queries and documents: retrieval by judgements, geometry, and how its rows lie."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from lossgauge.diagnostics.hubness import hubness
from lossgauge.ranking.judged import JudgedRetrieval, PerJudgedQuery, judged_retrieval
from lossgauge.ranking.query_set import against_each_other
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.ranking.search import neighbor_blocks
from lossgauge.study.run.pair_batches import unranked
from lossgauge.training import embed
from lossgauge.types import FeatureSet, PairRows, Record

HUB_NEIGHBORS = 10


class PairSpace(NamedTuple):
    """Unit rows of the queries of one side, and of documents."""

    queries: Float64[Tensor, "queries width"]
    rows: Int[Tensor, " queries"]
    """Of the queries in the feature set, ascending."""
    documents: Float64[Tensor, "documents width"]
    document_rows: Int[Tensor, " documents"]
    """Ascending."""

    @property
    def both(self) -> Float64[Tensor, "rows width"]:
        return torch.cat([self.queries, self.documents])

    @property
    def both_rows(self) -> Int[Tensor, " rows"]:
        return torch.cat([self.rows, self.document_rows])


def pair_space(
    head: nn.Module,
    documents: nn.Module,
    features: FeatureSet,
    queries: Int[Tensor, " queries"],
    document_rows: Int[Tensor, " documents"],
) -> PairSpace:
    """Queries by `head`, documents by `documents`; directions in float64."""
    asked = embed(head, features.features, queries).cpu()
    others = embed(documents, features.features, document_rows).cpu()
    sides = (norms_and_directions(side)[1] for side in (asked, others))
    return PairSpace(next(sides), queries, next(sides), document_rows)


def right_documents(pairs: PairRows, queries: Int[Tensor, " queries"]) -> Int[Tensor, " documents"]:
    """The rows that are right for one of the queries, ascending."""
    found: Tensor = pairs.document[(pairs.grade > 0) & torch.isin(pairs.query, queries)].unique()
    return found


def judged(space: PairSpace, pairs: PairRows, recall_at: tuple[int, ...]) -> JudgedRetrieval:
    """Every query against the whole corpus. A document with the query's own text is not ranked, unless it is judged right."""
    asked = torch.isin(pairs.query, space.rows)
    hidden = unranked(pairs, space.rows, right_too=False)
    return judged_retrieval(
        space.queries,
        space.documents,
        query=torch.searchsorted(space.rows, pairs.query[asked]),
        document=torch.searchsorted(space.document_rows, pairs.document[asked]),
        grade=pairs.grade[asked],
        left_out=hidden,
        recall_at=recall_at,
    )


def judged_columns(scores: JudgedRetrieval) -> Record:
    """Retrieval as a flat row."""
    return {
        "ndcg_at_10": scores.ndcg_at_10,
        "mrr_at_10": scores.mrr_at_10,
        **{f"found_at_{k}": value for k, value in scores.found_at.items()},
        **{f"recall_at_{k}": value for k, value in scores.recall_at.items()},
        "r_precision": scores.r_precision,
        "map_at_r": scores.map_at_r,
    }


def spread_columns(space: PairSpace, pairs: PairRows) -> Record:
    """Alignment of right pairs, mean cosine of two rows, and hubness of the documents; None where it is not defined."""
    right = (pairs.grade > 0) & torch.isin(pairs.query, space.rows)
    right &= torch.isin(pairs.document, space.document_rows)
    one = torch.searchsorted(space.rows, pairs.query[right])
    other = torch.searchsorted(space.document_rows, pairs.document[right])
    squares = [
        (space.queries[a] - space.documents[b]).square().sum(dim=1)
        for a, b in zip(one.split(4096), other.split(4096), strict=True)
    ]
    rows = space.both
    count = len(rows)
    total = float(rows.sum(dim=0).square().sum()) - float(rows.square().sum())
    return {
        "pair_alignment": float(torch.cat(squares).mean()) if len(one) else None,
        "anisotropy": total / (count * (count - 1)),
        "hubness": _hubness(space.documents),
    }


def _hubness(documents: Float64[Tensor, "documents width"]) -> float | None:
    """Skew of how many of the other documents have a document among their 10 nearest; None with no more than 10 documents."""
    count = len(documents)
    if count <= HUB_NEIGHBORS:
        return None
    rows = torch.arange(count)
    counts = torch.full((count,), HUB_NEIGHBORS)
    blocks = neighbor_blocks(against_each_other(documents), rows, counts=counts)
    skew = hubness(torch.cat([block.columns[:, :HUB_NEIGHBORS] for block in blocks])).skew
    return skew if math.isfinite(skew) else None


def judged_table(of: PerJudgedQuery, features: FeatureSet, space: PairSpace) -> pa.Table:
    """The table `queries` of a run; rows are those of the feature set, as in `query_table`."""
    query, document = (part.numpy().astype(np.int32) for part in (space.rows, space.document_rows))
    # −1 is no document: the last one would stand in its place
    wrong = np.where(of.nearest_wrong < 0, -1, document[of.nearest_wrong]).astype(np.int32)
    return pa.table(
        {
            "query": query[of.query],
            "label": features.labels[space.rows].numpy()[of.query],
            "hit_at_1": of.first_right_rank == 1,
            "ap_at_r": of.ap_at_r,
            "r_precision": of.r_precision,
            "first_right_rank": of.first_right_rank.astype(np.int32),
            "nearest_right": document[of.nearest_right],
            "nearest_right_similarity": of.nearest_right_similarity.astype(np.float32),
            "nearest_wrong": wrong,
            "nearest_wrong_similarity": of.nearest_wrong_similarity.astype(np.float32),
            "ndcg_at_10": of.ndcg_at_10,
            "reciprocal_rank_at_10": of.reciprocal_rank_at_10,
            **{f"found_at_{k}": values for k, values in of.found_at.items()},
        }
    )
