"""Retrieval metrics: each query is ranked against a gallery, by default against all other queries."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.errors import InputError
from lossgauge.ranking.inputs import Labelled, LabelledQueries, labelled_queries
from lossgauge.ranking.per_query import (
    PerClass,
    PerQuery,
    binary_ndcg,
    checked_gains,
    class_means,
    exact_mean,
    graded_ndcg,
    precisions,
)
from lossgauge.ranking.scores import Similarity, similarities
from lossgauge.ranking.search import Neighbors, neighbor_blocks

LEAST_DEPTH = 8
"""Queries are ranked to R + 1, and to this depth at least: a right row below it is ranked by counting."""

_PAIRS = 4096
"""Pairs of rows whose similarities are computed at a time."""


@dataclass(frozen=True)
class Retrieval:
    """Means over queries, each in [0, 1]. Two of them are equal if their means are."""

    recall_at: dict[int, float]
    """k → share of queries with a right row among the k nearest. A right row is one of the query's class."""
    r_precision: float
    """Share of right rows among the R nearest, where R is the number of right rows."""
    map_at_r: float
    """Mean over the R nearest of the precision at each hit, 0 at each miss: early hits count more."""
    query_count: int
    skipped_count: int
    """Queries without a right row in the gallery: they are not in the means, but others can retrieve them."""
    mrr: float | None
    """Mean of 1 / rank of the nearest right row. None without `per_query`."""
    mean_average_precision: float | None
    """MAP: mean of the precision at the rank of every right row. None without `full_ranking`."""
    ndcg: float | None
    """Discounted gain of the whole ranking over the largest possible one. None without `full_ranking`."""
    similarity: str = field(compare=False)
    """What the rows were ranked by: `dot`, `cosine` or `euclidean`."""
    per_query: PerQuery | None = field(repr=False, compare=False)

    @property
    def per_class(self) -> PerClass | None:
        """The same means for the queries of each class. None without `per_query`."""
        return self.per_query and class_means(self.per_query, tuple(self.recall_at))


def retrieval(
    embeddings: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    *,
    queries: Labelled | None = None,
    gallery: Labelled | None = None,
    query_ids: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    per_query: bool = True,
    full_ranking: bool = False,
    relevance: Any = None,
    block_rows: int | None = None,
    similarity: str = "dot",
) -> Retrieval:
    """Metrics of exact search by `dot` products, by `cosine`, which normalises the rows first, or by `euclidean` distance.

    Rows are ranked against each other, or `queries=(embeddings, labels)` against `gallery=(embeddings, labels)`.
    Similarities are those of float64 for any dtype; equal ones are ranked by index. A k above the number of candidates
    means all of them.

    Left out for a query: itself, if the rows are ranked against each other (no gallery, or one that is equal to the
    queries); with `query_ids` and `gallery_ids` instead each gallery row that has the query's id; and with
    `query_groups` and `gallery_groups` each row of the query's own class *and* group, such as the same person seen by
    the same camera. A row that is left out is neither right nor wrong: it is not in the ranking. Where the rows are
    ranked against each other, the ids and groups of the queries are enough.

    Without `per_query` only the means are computed, not the rank of each nearest right row: faster where many of them are
    far down. `full_ranking` also gives MAP and nDCG over the whole gallery, which takes some ten times as long. The gain of a row
    in nDCG is 1 if it is right; `relevance`, an array of (queries, gallery) such as a `numpy.memmap`, gives other gains,
    and is read in blocks of queries. Memory is block_rows × gallery, and 12 bytes for each number of the embeddings; the
    result does not depend on block_rows. Raises InputError for an empty or non-finite batch, lengths or widths that do
    not match, fewer than two classes in the gallery, if no query has a right row, and for the cosine of a row of zeros.
    """
    if (embeddings is None) == (queries is None) or (embeddings is None and labels is not None):
        raise InputError(
            "retrieval needs either embeddings and labels, or queries=(embeddings, labels)"
        )
    if similarity not in get_args(Similarity):
        raise InputError(
            f"similarity must be one of {', '.join(get_args(Similarity))}, got {similarity!r}"
        )
    ranks = checked_ranks(recall_at)
    given = labelled_queries(
        (embeddings, labels) if queries is None else queries,  # type: ignore[arg-type]
        gallery,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_groups=query_groups,
        gallery_groups=gallery_groups,
    )
    of = _per_query(
        given,
        relevance=_checked_relevance(relevance, given),
        least_depth=LEAST_DEPTH if per_query else max(LEAST_DEPTH, *ranks),
        ranks_all=per_query,
        full=full_ranking or relevance is not None,
        block_rows=block_rows,
        similarity=cast(Similarity, similarity),
    )
    count = len(of.query)
    return Retrieval(
        recall_at={k: int((of.first_right_rank <= k).sum()) / count for k in ranks},
        r_precision=exact_mean(of.r_precision),
        map_at_r=exact_mean(of.ap_at_r),
        query_count=count,
        skipped_count=len(given.labels) - count,
        mrr=exact_mean(1 / of.first_right_rank) if per_query else None,
        mean_average_precision=None
        if of.average_precision is None
        else exact_mean(of.average_precision),
        ndcg=None if of.ndcg is None else exact_mean(of.ndcg),
        similarity=similarity,
        per_query=of if per_query else None,
    )


def checked_ranks(recall_at: Any) -> tuple[int, ...]:
    try:
        ranks = tuple(operator.index(rank) for rank in recall_at)
    except TypeError:
        ranks = ()
    if not ranks or min(ranks) < 1:
        raise InputError(
            f"recall_at must be positive whole numbers of neighbours, such as (1, 10), got {recall_at!r}"
        )
    return ranks


def _checked_relevance(relevance: Any, given: LabelledQueries) -> Any:
    if relevance is None:
        return None
    if isinstance(relevance, Tensor):
        relevance = relevance.numpy(force=True)
    elif not hasattr(relevance, "shape"):
        relevance = np.asarray(relevance)
    expected = len(given.labels), given.ranked.gallery_count
    if tuple(relevance.shape) != expected:
        raise InputError(
            f"relevance must have one row for each query and one column for each gallery row, {expected}, "
            f"got shape {tuple(relevance.shape)}"
        )
    return relevance


def _per_query(
    given: LabelledQueries,
    *,
    least_depth: int,
    ranks_all: bool,
    relevance: Any,
    full: bool,
    block_rows: int | None,
    similarity: Similarity,
) -> PerQuery:
    right = given.right_count
    # similar counts together: a block is ranked only as deep as its largest count needs
    queries = right.argsort(stable=True)[int((right == 0).sum()) :]
    counts = (right[queries] + 1).clamp(min=least_depth)
    if full:
        counts = given.ranked.candidate_count[queries]
    blocks = neighbor_blocks(
        given.ranked, queries, counts=counts, block_rows=block_rows, similarity=similarity
    )
    parts = [_numbers(given, block, ranks_all, relevance, full) for block in blocks]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = columns["query"].argsort()
    columns = {name: column[order] for name, column in columns.items()}
    for name in ("nearest_right", "nearest_wrong"):
        values = np.full(len(order), np.nan)
        if ranks_all:
            values = _similarities(given, columns["query"], columns[name], similarity)
        columns[f"{name}_similarity"] = values
    return PerQuery(**columns)


def _numbers(
    given: LabelledQueries, block: Neighbors, ranks_all: bool, relevance: Any, full: bool
) -> dict[str, np.ndarray]:
    """The columns of `PerQuery` for one block, without similarities.

    Without `ranks_all`, a nearest right row below the sorted depth has the largest possible rank.
    """
    queries, columns = block.queries, block.columns
    right_count, candidates = given.right_count[queries], given.ranked.candidate_count[queries]
    hit = given.gallery_classes[columns] == given.query_classes[queries][:, None]
    if int(candidates.min()) < columns.shape[1]:
        hit &= torch.arange(columns.shape[1], device=columns.device) < candidates[:, None]
    hits = hit.cpu().numpy()
    # numpy stops at the first one that it finds
    first, wrong = (
        torch.from_numpy(place).to(columns.device)
        for place in (hits.argmax(axis=1), hits.argmin(axis=1))
    )
    nearest_right = columns.gather(1, first[:, None])[:, 0]
    rank = first + 1
    missed = (~hit.gather(1, first[:, None])[:, 0]).nonzero().flatten()
    rank[missed] = given.ranked.gallery_count
    if len(missed) and ranks_all:
        place, column = _right_pairs(given, queries[missed])
        nearest_right[missed], rank[missed] = block.nearest_of(missed[place], column)
    nearest_wrong = columns.gather(1, wrong[:, None])[:, 0]
    nearest_wrong[candidates == right_count] = -1

    r = right_count.cpu().numpy()
    r_precision, ap_at_r = precisions(hits, r, r)
    numbers = {
        "query": queries.cpu().numpy(),
        "label": given.labels[queries].cpu().numpy(),
        "right_count": r,
        "first_right_rank": rank.cpu().numpy(),
        "r_precision": r_precision,
        "ap_at_r": ap_at_r,
        "nearest_right": nearest_right.cpu().numpy(),
        "nearest_wrong": nearest_wrong.cpu().numpy(),
    }
    if full:
        depth = candidates.cpu().numpy()
        numbers["average_precision"] = precisions(hits, depth, r)[1]
        numbers["ndcg"] = (
            binary_ndcg(hits, r)
            if relevance is None
            else _graded(relevance, numbers["query"], columns.cpu().numpy(), depth)
        )
    return numbers


def _right_pairs(given: LabelledQueries, queries: Tensor) -> tuple[Tensor, Tensor]:
    """The place in `queries` and the gallery row of each right row."""
    place, column = given.members.pairs(queries)
    out = torch.zeros_like(place, dtype=torch.bool)
    key = place * given.ranked.gallery_count + column
    for left_out in given.ranked.left_out:
        at, row = left_out.pairs(queries)
        out |= torch.isin(key, at * given.ranked.gallery_count + row)
    return place[~out], column[~out]


def _graded(
    relevance: Any, queries: np.ndarray, columns: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    try:
        gains = checked_gains(relevance[queries])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"relevance must be finite numbers of at least 0, got another value for one of the queries "
            f"{queries.min()} to {queries.max()} ({error})"
        ) from None
    ranked = np.arange(columns.shape[1]) < depth[:, None]
    values = graded_ndcg(np.take_along_axis(gains, columns, axis=1) * ranked)
    if np.isnan(values).any():
        raise InputError(
            f"relevance must be above 0 for at least one candidate of each query, got none for query "
            f"{queries[np.isnan(values)].min()}"
        )
    return values


def _similarities(
    given: LabelledQueries, queries: np.ndarray, columns: np.ndarray, similarity: Similarity
) -> np.ndarray:
    """The similarity of each query and gallery row; NaN where the row is −1."""
    values = np.full(len(queries), np.nan)
    for pairs in _split(np.flatnonzero(columns >= 0)):
        query, column = (
            torch.from_numpy(part[pairs]).to(given.labels.device) for part in (queries, columns)
        )
        rows = given.ranked.rows.detach()
        one, other = rows[given.ranked.query_rows[query]], rows[column]
        values[pairs] = similarities(one, other, similarity).cpu().numpy()
    return values


def _split(places: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(places), _PAIRS):
        yield places[start : start + _PAIRS]
