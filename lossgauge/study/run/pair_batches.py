"""Batches of queries and documents: pure functions of seed and epoch, without duplicate texts; and hard negatives.

Hard negatives are mined from the frozen features: documents of some ranks that are not judged right. One that is nearly as
similar to the query as its right document is left out, because it is probably right too (the relative margin of
sentence-transformers' `mine_hard_negatives`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.ranking.judged import pairs_of
from lossgauge.ranking.query_set import QuerySet
from lossgauge.ranking.scores import norms_and_directions, similarities
from lossgauge.ranking.search import neighbor_blocks
from lossgauge.types import FeatureSet, PairRows


class PairRowsBatch(NamedTuple):
    """Rows of one batch: each query's right document has the place of the query, then come hard negatives."""

    queries: Int[Tensor, " queries"]
    documents: Int[Tensor, " documents"]


class Candidates(NamedTuple):
    """Documents that may be drawn as hard negatives."""

    query: Int[Tensor, " queries"]
    """Rows, ascending."""
    document: Int[np.ndarray, "queries band"]
    """Rows; −1 where there is none."""
    similarity: Float[np.ndarray, "queries band"]


def pair_batches(
    pairs: PairRows,
    queries: Int[Tensor, " queries"],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    candidates: Candidates | None = None,
    per_query: int | None = None,
    right_similarity: Float[np.ndarray, " judged"] | None = None,
    max_similarity: float = 1.0,
) -> list[PairRowsBatch]:
    """`queries` shuffled, each with one of its right documents at random, cut into full batches; a remainder is dropped.

    A query waits for a later batch if its text or that of its document is in the batch already. Without `per_query` every
    candidate is a hard negative of its query; else so many at random of those that are less similar than `max_similarity` times
    `right_similarity`, that of the drawn document. With fewer queries than `batch_size` there is one batch.
    """
    if batch_size < 2:
        raise InputError(f"a batch needs at least two queries, got batch_size={batch_size}")
    generator = np.random.default_rng([seed, epoch])
    judged = (pairs.grade > 0).numpy()
    query, document = pairs.query.numpy()[judged], pairs.document.numpy()[judged]
    asked = np.sort(queries.numpy())
    start, end = (np.searchsorted(query, asked, side=side) for side in ("left", "right"))
    asked, start, end = (of[end > start] for of in (asked, start, end))
    if len(asked) < 2:
        raise InputError(
            f"batches need at least two training queries with a right document, got {len(asked)}"
        )
    drawn = start + (generator.random(len(asked)) * (end - start)).astype(np.int64)
    order = generator.permutation(len(asked))
    text = pairs.text.numpy()
    size = min(batch_size, len(asked))
    right = None if right_similarity is None else right_similarity[judged]
    batches = []
    for places in _without_duplicates(text[asked], text[document[drawn]], order, size):
        found = document[drawn[places]].tolist()
        used = {*text[asked[places]].tolist(), *text[found].tolist()}
        if candidates is not None:
            limits = None if right is None else _limit(right[drawn[places]], max_similarity)
            for row in _negatives(candidates, asked[places], per_query, limits, generator):
                if text[row] not in used:
                    used.add(text[row])
                    found.append(row)
        batches.append(PairRowsBatch(torch.from_numpy(asked[places]), torch.tensor(found)))
    return batches


def masks(
    pairs: PairRows, batch: PairRowsBatch
) -> tuple[Bool[Tensor, "queries documents"], Bool[Tensor, "queries documents"]]:
    """Which document of a batch is right for which query, and which is its negative: neither is one with the query's own text."""
    rows = len(pairs.text)
    right = pairs.grade > 0
    keys = (pairs.query * rows + pairs.document)[right]
    wanted = batch.queries[:, None] * rows + batch.documents
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    positive = keys[place] == wanted
    same = pairs.text[batch.queries][:, None] == pairs.text[batch.documents]
    return positive, ~positive & ~same


def given_negatives(pairs: PairRows, queries: Int[Tensor, " queries"]) -> Candidates | None:
    """The hard negatives in the data; None without them."""
    if not len(pairs.negative_query):
        return None
    asked = queries.sort().values
    place = torch.searchsorted(asked, pairs.negative_query).clamp(max=len(asked) - 1)
    kept = asked[place] == pairs.negative_query
    if not kept.any():
        return None
    of = pairs_of(place[kept], pairs.negative_document[kept], queries=len(asked))
    document = np.full((len(asked), int(of.counts.max())), -1)
    query, row = of.pairs(torch.arange(len(asked)))
    within = torch.arange(len(query)) - (of.counts.cumsum(0) - of.counts)[query]
    document[query.numpy(), within.numpy()] = row.numpy()
    return Candidates(asked, document, np.zeros(document.shape))


def mined_negatives(
    features: FeatureSet, queries: Int[Tensor, " queries"], *, from_rank: int, to_rank: int
) -> Candidates:
    """Documents after the `from_rank` nearest, up to the `to_rank` nearest, among those that are not right for the query and do
    not have its text, by cosine of the frozen features."""
    pairs = _pairs_of(features)
    asked = queries.sort().values
    _, directions = norms_and_directions(features.features[torch.cat([pairs.corpus, asked])])
    documents = len(pairs.corpus)
    place, column = unranked(pairs, asked)
    out = pairs_of(place, column, queries=len(asked))
    left = documents - out.counts
    of = QuerySet(directions, torch.arange(len(asked)) + documents, documents, (out,), left)
    document = np.full((len(asked), to_rank - from_rank), -1)
    similarity = np.full(document.shape, np.nan)
    able = (left > 0).nonzero().flatten()
    for block in neighbor_blocks(of, able, counts=left[able].clamp(max=to_rank)):
        columns = block.columns[:, from_rank:to_rank]
        ranks = torch.arange(from_rank, from_rank + columns.shape[1])
        row, at = (ranks < left[block.queries][:, None]).nonzero(as_tuple=True)
        query, found = block.queries[row], columns[row, at]
        document[query.numpy(), at.numpy()] = pairs.corpus[found].numpy()
        for some in torch.arange(len(query)).split(4096):
            similarity[query[some].numpy(), at[some].numpy()] = similarities(
                directions[query[some] + documents], directions[found[some]], "dot"
            ).numpy()
    return Candidates(asked, document, similarity)


def unranked(
    pairs: PairRows, asked: Int[Tensor, " queries"], *, right_too: bool = True
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Place of a query in `asked`, and place of a document in the corpus: documents with the query's text that are not judged
    right, and with `right_too` also its right documents."""
    documents = len(pairs.corpus)
    texts, order = pairs.text[pairs.corpus].sort(stable=True)
    low, high = (
        torch.searchsorted(texts, pairs.text[asked].contiguous(), right=right)
        for right in (False, True)
    )
    place = torch.arange(len(asked)).repeat_interleave(high - low)
    within = torch.arange(len(place)) - ((high - low).cumsum(0) - (high - low))[place]
    same = place * documents + order[low[place] + within]
    right = pairs.grade > 0
    at = torch.searchsorted(asked, pairs.query).clamp(max=len(asked) - 1)
    right &= asked[at] == pairs.query
    judged = at[right] * documents + torch.searchsorted(pairs.corpus, pairs.document[right])
    keys = torch.cat([same, judged]).unique() if right_too else same[~torch.isin(same, judged)]
    return keys // documents, keys % documents


def right_similarities(features: FeatureSet) -> Float[np.ndarray, " judged"]:
    """The cosine of each judged pair in the frozen features."""
    pairs = _pairs_of(features)
    parts = [
        similarities(
            norms_and_directions(features.features[pairs.query[some]])[1],
            norms_and_directions(features.features[pairs.document[some]])[1],
            "dot",
        )
        for some in torch.arange(len(pairs.query)).split(4096)
    ]
    return torch.cat(parts).numpy()


class MinedShares(NamedTuple):
    """What the filter leaves of a band, over the training queries."""

    without: float
    """Share of queries with no negative left, in [0, 1]."""
    false: float | None
    """Share of right documents among the negatives if only the nearest right document of a query were known, over the queries with
    several; None without such a query."""


def mined_shares(
    features: FeatureSet,
    candidates: Candidates,
    *,
    from_rank: int,
    to_rank: int,
    max_similarity: float,
) -> MinedShares:
    """How many queries the mining serves, and how often it would name a right document, where judgements can tell."""
    pairs = _pairs_of(features)
    similar = right_similarities(features)
    right = np.flatnonzero(
        (pairs.grade > 0).numpy() & np.isin(pairs.query.numpy(), candidates.query.numpy())
    )
    best: dict[int, int] = {}
    for at in right[np.argsort(similar[right], kind="stable")].tolist():
        best[int(pairs.query[at])] = at
    highest = np.array([similar[best[q]] if q in best else -1 for q in candidates.query.tolist()])
    left = candidates.similarity < _limit(highest, max_similarity)[:, None]
    without = float((~left.any(axis=1)).mean())
    counts = np.bincount(pairs.query.numpy()[right], minlength=len(pairs.text))
    several = torch.tensor([q for q in candidates.query.tolist() if counts[q] > 1])
    if not len(several):
        return MinedShares(without, None)
    known = torch.tensor(sorted(best.values()))
    only = pairs._replace(
        query=pairs.query[known], document=pairs.document[known], grade=pairs.grade[known]
    )
    blind = mined_negatives(
        features._replace(pairs=only), several, from_rank=from_rank, to_rank=to_rank
    )
    limits = np.array([similar[best[q]] for q in several.tolist()])
    named = blind.similarity < _limit(limits, max_similarity)[:, None]
    rows = len(pairs.text)
    keys = several.numpy()[:, None] * rows + blind.document
    judged = (pairs.query * rows + pairs.document).numpy()[right]
    wrong = named & np.isin(keys, judged)
    return MinedShares(without, float(wrong.sum() / named.sum()) if named.any() else None)


def _pairs_of(features: FeatureSet) -> PairRows:
    if features.pairs is None:
        raise InputError(f"{features.dataset} has classes, not queries and documents")
    return features.pairs


def _limit(right: Float[np.ndarray, " some"], share: float) -> Float[np.ndarray, " some"]:
    """`share` times the similarity of the right document; below it by as much where that is negative."""
    limits: np.ndarray = right - (1 - share) * np.abs(right)
    return limits


def _negatives(
    candidates: Candidates,
    queries: Int[np.ndarray, " batch"],
    per_query: int | None,
    limits: Float[np.ndarray, " batch"] | None,
    generator: np.random.Generator,
) -> list[int]:
    rows: list[int] = []
    at = np.searchsorted(candidates.query.numpy(), queries)
    for number, place in enumerate(at.tolist()):
        able = candidates.document[place] >= 0
        if limits is not None:
            able &= candidates.similarity[place] < limits[number]
        found = candidates.document[place][able]
        if per_query is not None and len(found) > per_query:
            found = generator.choice(found, per_query, replace=False)
        rows += found.tolist()
    return rows


def _without_duplicates(
    query_text: Int[np.ndarray, " queries"],
    document_text: Int[np.ndarray, " queries"],
    order: Int[np.ndarray, " queries"],
    size: int,
) -> list[Int[np.ndarray, " batch"]]:
    """Places in batches of `size`: the first ones in `order` whose texts are not in the batch yet; others wait.

    A last batch that is not full is dropped, unless it is the only one.
    """
    waiting = order.tolist()
    batches: list[np.ndarray] = []
    while waiting:
        batch: list[int] = []
        texts: set[int] = set()
        later: list[int] = []
        for number, place in enumerate(waiting):
            own = {int(query_text[place]), int(document_text[place])}
            if texts & own:
                later.append(place)
                continue
            batch.append(place)
            texts |= own
            if len(batch) == size:
                later += waiting[number + 1 :]
                break
        if len(batch) < size and batches:
            break
        batches.append(np.array(batch))
        if len(batch) < size:
            break
        waiting = later
    return batches
