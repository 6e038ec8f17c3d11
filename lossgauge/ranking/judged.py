"""Retrieval of documents by queries, where judgements say which document is right for which query, and how much.

The measures are those of trec_eval, as in ir-measures: nDCG@10 with the grade as gain (not 2^grade − 1) and the discount
log2(rank + 1), over the largest value that the judged documents of the query allow (Järvelin and Kekäläinen 2002);
reciprocal rank of the nearest right document, 0 below rank 10; and the share of right documents among the first k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, cast, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.errors import InputError
from lossgauge.ranking.graded import ideal_grades
from lossgauge.ranking.per_query import discounted_gain, exact_mean, precisions
from lossgauge.ranking.query_set import Matches, QuerySet
from lossgauge.ranking.scores import Similarity, similarities
from lossgauge.ranking.search import Neighbors, neighbor_blocks

FOUND_AT = (1, 10, 100)
"""The k of Recall@k."""

CUT = 10
"""The depth of nDCG and of the reciprocal rank."""

_PAIRS = 4096
"""Pairs of rows whose similarities are computed at a time."""


class PerJudgedQuery(NamedTuple):
    """One entry for each query with a right document, by ascending number of the query."""

    query: Int64[np.ndarray, " queries"]
    right_count: Int64[np.ndarray, " queries"]
    """R: its right documents, at least 1."""
    ndcg_at_10: Float64[np.ndarray, " queries"]
    reciprocal_rank_at_10: Float64[np.ndarray, " queries"]
    found_at: dict[int, Float64[np.ndarray, " queries"]]
    """k → share of its right documents among the first k: Recall@k of information retrieval."""
    first_right_rank: Int64[np.ndarray, " queries"]
    """Rank of the nearest right document among all candidates, from 1."""
    r_precision: Float64[np.ndarray, " queries"]
    ap_at_r: Float64[np.ndarray, " queries"]
    """The mean over the R nearest of the precision at each right one, and 0 at each other."""
    nearest_right: Int64[np.ndarray, " queries"]
    """A document."""
    nearest_right_similarity: Float64[np.ndarray, " queries"]
    nearest_wrong: Int64[np.ndarray, " queries"]
    """A document; −1 if all candidates are right."""
    nearest_wrong_similarity: Float64[np.ndarray, " queries"]
    """NaN if all candidates are right."""


@dataclass(frozen=True)
class JudgedRetrieval:
    """Means over queries, each in [0, 1]. Two of them are equal if their means are."""

    ndcg_at_10: float
    """Grades of the first 10 documents discounted by log2(rank + 1), over the largest possible value."""
    mrr_at_10: float
    """Mean of 1 / rank of the nearest right document; 0 for a query without one among the first 10."""
    found_at: dict[int, float]
    """k → share of the right documents of a query among its first k: Recall@k of information retrieval."""
    recall_at: dict[int, float]
    """k → share of queries with a right document among the first k: the hit rate."""
    r_precision: float
    map_at_r: float
    query_count: int
    skipped_count: int
    """Queries without a right document: they are not in the means."""
    similarity: str = field(compare=False)
    per_query: PerJudgedQuery = field(repr=False, compare=False)


class _Judged(NamedTuple):
    """A checked task."""

    ranked: QuerySet
    right: Matches
    """For each query, its right documents, ascending."""
    keys: Int64[Tensor, " right"]
    """query · documents + document of each right pair, ascending."""
    grades: Float64[Tensor, " right"]
    best: Float64[np.ndarray, " queries"]
    """The largest possible discounted gain of each query."""


def judged_retrieval(
    queries: ArrayLike,
    documents: ArrayLike,
    *,
    query: ArrayLike,
    document: ArrayLike,
    grade: ArrayLike | None = None,
    left_out: tuple[ArrayLike, ArrayLike] | None = None,
    recall_at: tuple[int, ...] = FOUND_AT,
    similarity: str = "dot",
    block_rows: int | None = None,
) -> JudgedRetrieval:
    """nDCG@10, MRR@10 and Recall@1/10/100 of exact search: every query is ranked against every document.

    `queries` is (q, width), `documents` (d, width). Judgement i says that `document[i]` has `grade[i]` for `query[i]`, both as row
    numbers; without `grade` each is 1. A grade of 0 is that of a document without a judgement: not right. `left_out` names
    pairs that are not ranked, as (query, document). Rows are ranked by `dot`, `cosine` or `euclidean` in float64; of equal ones the
    document with the lower number comes first. Time grows as q × d, memory as `block_rows` × d.

    Raises InputError for rows that are not finite or of other widths, for judgements of rows that do not exist or that are there
    twice, for a grade below 0, and if no query has a right document that is ranked.
    """
    if similarity not in get_args(Similarity):
        raise InputError(
            f"similarity must be one of {', '.join(get_args(Similarity))}, got {similarity!r}"
        )
    given = _checked(queries, documents, query, document, grade, left_out)
    asked = given.right.counts.argsort(stable=True)
    asked = asked[int((given.right.counts == 0).sum()) :]
    counts = (given.right.counts[asked] + 1).clamp(min=max(FOUND_AT))
    counts = torch.minimum(counts, given.ranked.candidate_count[asked])
    blocks = neighbor_blocks(
        given.ranked,
        asked,
        counts=counts,
        block_rows=block_rows,
        similarity=cast(Similarity, similarity),
    )
    parts = [_numbers(given, block) for block in blocks]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = columns["query"].argsort()
    columns = {name: column[order] for name, column in columns.items()}
    for name in ("nearest_right", "nearest_wrong"):
        columns[f"{name}_similarity"] = _similarities(
            given.ranked, columns["query"], columns[name], cast(Similarity, similarity)
        )
    found_at = {k: columns.pop(f"found_at_{k}") for k in FOUND_AT}
    of = PerJudgedQuery(**columns, found_at=found_at)
    count = len(of.query)
    return JudgedRetrieval(
        ndcg_at_10=exact_mean(of.ndcg_at_10),
        mrr_at_10=exact_mean(of.reciprocal_rank_at_10),
        found_at={k: exact_mean(values) for k, values in found_at.items()},
        recall_at={k: int((of.first_right_rank <= k).sum()) / count for k in recall_at},
        r_precision=exact_mean(of.r_precision),
        map_at_r=exact_mean(of.ap_at_r),
        query_count=count,
        skipped_count=len(given.right.counts) - count,
        similarity=similarity,
        per_query=of,
    )


def pairs_of(
    query: Int64[Tensor, " pairs"], document: Int64[Tensor, " pairs"], *, queries: int
) -> Matches:
    """Pairs as the documents of each query, ascending."""
    order = document.argsort(stable=True)
    order = order[query[order].argsort(stable=True)]
    counts = query.bincount(minlength=queries)
    return Matches(document[order], counts.cumsum(0) - counts, counts)


def _numbers(given: _Judged, block: Neighbors) -> dict[str, np.ndarray]:
    """The columns of `PerJudgedQuery` for one block, without similarities."""
    queries, columns = block.queries, block.columns
    right_count, candidates = given.right.counts[queries], given.ranked.candidate_count[queries]
    gains = _grades(given, queries, columns)
    gains[torch.arange(columns.shape[1]) >= candidates[:, None]] = 0
    hits = (gains > 0).numpy()
    first, wrong = (torch.from_numpy(place) for place in (hits.argmax(axis=1), hits.argmin(axis=1)))
    nearest_right = columns.gather(1, first[:, None])[:, 0]
    rank = first + 1
    missed = torch.from_numpy(np.flatnonzero(~hits.any(axis=1)))
    if len(missed):
        place, column = given.right.pairs(queries[missed])
        nearest_right[missed], rank[missed] = block.nearest_of(missed[place], column)
    nearest_wrong = columns.gather(1, wrong[:, None])[:, 0]
    nearest_wrong[candidates == right_count] = -1
    r = right_count.numpy()
    r_precision, ap_at_r = precisions(hits, r, r)
    ranks = rank.numpy()
    return {
        "query": queries.numpy(),
        "right_count": r,
        "ndcg_at_10": discounted_gain(gains.numpy()[:, :CUT]) / given.best[queries.numpy()],
        "reciprocal_rank_at_10": np.where(ranks <= CUT, 1 / ranks, 0.0),
        **{f"found_at_{k}": hits[:, :k].sum(axis=1) / r for k in FOUND_AT},
        "first_right_rank": ranks,
        "r_precision": r_precision,
        "ap_at_r": ap_at_r,
        "nearest_right": nearest_right.numpy(),
        "nearest_wrong": nearest_wrong.numpy(),
    }


def _grades(
    given: _Judged, queries: Int64[Tensor, " block"], columns: Int64[Tensor, "block k"]
) -> Float64[Tensor, "block k"]:
    """The grade of each ranked document; 0 where it has none."""
    keys = queries[:, None] * given.ranked.gallery_count + columns
    place = torch.searchsorted(given.keys, keys).clamp(max=len(given.keys) - 1)
    return torch.where(given.keys[place] == keys, given.grades[place], 0.0)


def _best(right: Matches, grades: Float64[Tensor, " right"]) -> Float64[np.ndarray, " queries"]:
    """The discounted gain of each query if its documents were ranked by grade."""
    numbers = np.arange(len(right.counts))
    query = numbers.repeat(right.counts.numpy())
    return discounted_gain(ideal_grades(query, grades.numpy(), numbers, CUT))


def _checked(
    queries: ArrayLike,
    documents: ArrayLike,
    query: ArrayLike,
    document: ArrayLike,
    grade: ArrayLike | None,
    left_out: tuple[ArrayLike, ArrayLike] | None,
) -> _Judged:
    asked, corpus = _rows("queries", queries), _rows("documents", documents)
    if asked.shape[1] != corpus.shape[1]:
        raise InputError(
            f"queries and documents must have the same width, got {asked.shape[1]} and {corpus.shape[1]}"
        )
    sizes = len(asked), len(corpus)
    one, other = _numbered("judgements", query, document, sizes)
    grades = torch.ones(len(one), dtype=torch.float64)
    if grade is not None:
        grades = torch.as_tensor(grade).detach().cpu().double().reshape(-1)
    if grades.shape != one.shape:
        raise InputError(
            f"grade must have one number for each of the {len(one)} judgements, got {len(grades)}"
        )
    odd = ~(grades.isfinite() & (grades >= 0))
    if odd.any():
        raise InputError(
            f"a grade must be a finite number of at least 0, got {float(grades[odd][0])} for judgement {int(odd.nonzero()[0])}"
        )
    candidates = torch.full((sizes[0],), sizes[1])
    out: tuple[Matches, ...] = ()
    kept = grades > 0
    if left_out is not None:
        removed, hidden = _numbered("left_out", *left_out, sizes)
        out = (pairs_of(removed, hidden, queries=sizes[0]),)
        candidates = candidates - out[0].counts
        kept &= ~torch.isin(one * sizes[1] + other, removed * sizes[1] + hidden)
    if not kept.any():
        raise InputError(
            f"none of the {sizes[0]} queries has a right document that is ranked: check the judgements"
        )
    right = pairs_of(one[kept], other[kept], queries=sizes[0])
    keys = one[kept] * sizes[1] + other[kept]
    order = keys.argsort()
    grades = grades[kept][order]
    ranked = QuerySet(
        torch.cat([corpus, asked]),
        torch.arange(sizes[0]) + sizes[1],
        sizes[1],
        out,
        candidates,
    )
    return _Judged(ranked, right, keys[order], grades, _best(right, grades))


def _rows(name: str, values: ArrayLike) -> Float[Tensor, "rows width"]:
    rows = torch.as_tensor(values).detach().cpu()
    if rows.ndim != 2 or not rows.is_floating_point() or not rows.numel():
        raise InputError(
            f"{name} must be (rows, width) floats, got shape {tuple(rows.shape)} of {rows.dtype}"
        )
    return rows


def _numbered(
    name: str, query: ArrayLike, document: ArrayLike, sizes: tuple[int, int]
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Row numbers of both sides, each pair once."""
    sides = []
    for side, values, size in zip(("query", "document"), (query, document), sizes, strict=True):
        numbers = torch.as_tensor(values).detach().cpu()
        if numbers.ndim != 1 or numbers.is_floating_point() or numbers.dtype == torch.bool:
            raise InputError(
                f"the {side} numbers of {name} must be one list of whole numbers, got shape {tuple(numbers.shape)} of {numbers.dtype}"
            )
        numbers = numbers.long()
        wrong: Bool[Tensor, " pairs"] = (numbers < 0) | (numbers >= size)
        if wrong.any():
            raise InputError(
                f"{name} name {side} {int(numbers[wrong][0])}, but they are numbered from 0 to {size - 1}"
            )
        sides.append(numbers)
    one, other = sides
    if len(one) != len(other):
        raise InputError(
            f"{name} must have one document for each query, got {len(one)} queries and {len(other)} documents"
        )
    keys, counts = (one * sizes[1] + other).unique(return_counts=True)
    if len(keys) < len(one):
        at = int(keys[counts > 1][0])
        raise InputError(
            f"{name} have query {at // sizes[1]} and document {at % sizes[1]} twice: keep one of them"
        )
    return one, other


def _similarities(
    ranked: QuerySet, queries: np.ndarray, columns: np.ndarray, similarity: Similarity
) -> Float64[np.ndarray, " queries"]:
    """The similarity of each query and document; NaN where the document is −1."""
    values = np.full(len(queries), np.nan)
    known = np.flatnonzero(columns >= 0)
    for start in range(0, len(known), _PAIRS):
        at = known[start : start + _PAIRS]
        one = ranked.rows[ranked.query_rows[torch.from_numpy(queries[at])]]
        other = ranked.rows[torch.from_numpy(columns[at])]
        values[at] = similarities(one, other, similarity).numpy()
    return values
