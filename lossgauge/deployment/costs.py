"""What the width of embeddings costs and gives: R@1, or nDCG@10 of queries and documents, with fewer numbers; bytes for a million rows, time of a search.

The same of the features without the head, cut to the same widths: what is lost with the width may be the features' loss and not the head's.
Fewer numbers in two ways: the first ones (truncation; Kusupati et al. 2022, arXiv 2205.13147, train for it, here the loss `matryoshka` does), or the
leading principal directions. These are of the training rows' second moments, without subtracting a mean, so that at full
width they only rotate the space (our choice). Rows are normalised again after both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from lossgauge.diagnosis.ranked import over_queries
from lossgauge.errors import InputError
from lossgauge.ranking.metrics import retrieval
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.stats.crossed import Drawn, over_new_queries
from lossgauge.stats.intervals import Interval
from lossgauge.study.run.measure_pairs import PairSpace, judged
from lossgauge.types import PairRows

MOST_QUERIES = 2_000
"""Test rows that are searched for among all test rows; more are drawn at random."""

LEAST_WIDTH = 8
TIMED_NUMBERS, REPEATS = 1 << 24, 7
"""A search is timed over 64 MB for every width, since a gallery that fits into the processor's cache would be read many times faster."""

MILLION = 1_000_000
_NEIGHBORS = 10
_MOMENT_ROWS = 1 << 14


class WidthCost(NamedTuple):
    """One width of the embeddings."""

    width: int
    truncated: float
    """The metric of the first numbers."""
    truncated_change: Interval
    """Against the full width, paired by query; the interval is over new queries."""
    reduced: float
    """The metric in the leading principal directions of the training rows."""
    reduced_change: Interval
    bytes_float32: int
    """Of a million rows."""
    bytes_int8: int
    """Of a million rows of one byte for each number. A scale for each row, which a dot product needs, takes 4 MB more."""
    search_milliseconds: float
    """One query among a million float32 rows on this machine: exact search for the ten nearest."""


class RawCost(NamedTuple):
    """The features without the head, at one width."""

    width: int
    truncated: float
    """The metric of the first numbers."""
    truncated_gain: Interval
    """What the head adds: its first numbers minus these, at the same width; at the full width of the features, the whole head. Paired by
    query, the interval is over new queries."""
    reduced: float
    """The metric in the leading principal directions of the features of the training rows."""
    reduced_gain: Interval


class Costs(NamedTuple):
    """Of one head, on the test side of its dataset."""

    widths: tuple[WidthCost, ...]
    """From the full width down."""
    int8: float
    """The metric at full width if the gallery has one byte for each number, and the queries are float32."""
    int8_change: Interval
    queries: int
    gallery: int
    metric: str = "R@1"
    raw: tuple[RawCost, ...] = ()
    """The features without the head: from their full width down, at the widths of the head. Empty if they are not given."""


Score = Callable[[Float64[Tensor, "rows width"], Float64[Tensor, "rows width"]], np.ndarray]
"""From rows, and from rows as the gallery has them, to a number for each query."""

IntervalOf = Callable[[Float64[np.ndarray, " queries"]], Interval]
"""The mean of a number, or of a change, of each query, with its interval."""

_ByQuery = tuple[np.ndarray, np.ndarray]
"""A number for each query: by the first numbers, and by the leading principal directions."""


def costs(
    train: Float[Tensor, "train width"],
    test: Float[Tensor, "test width"],
    labels: Int[Tensor, " test"],
    *,
    raw: tuple[Float[Tensor, "train features"], Float[Tensor, "test features"]] | None = None,
    widths: Sequence[int] | None = None,
    seed: int = 0,
) -> Costs:
    """Costs of embeddings; principal directions come from the rows of `train`, retrieval is among the rows of `test`.

    `raw` are the features of the same rows without the head, as a search would compare them; they have principal directions of their own.
    `widths` is by default the full width and the powers of two below it, down to 8. `seed` draws the queries where there are
    more than `MOST_QUERIES`. Time: two searches for each width, and as many with `raw`. Raises InputError for a width that is not in 1 to full,
    and if no query has a right row.
    """
    sizes = _sizes(test.shape[1], widths)
    queries = _queries(len(labels), seed)
    return _costs(
        train,
        test,
        lambda rows, gallery: hits(rows, labels, queries, gallery=gallery).astype(float),
        raw=raw,
        sizes=sizes,
        gallery=len(labels),
        metric="R@1",
    )


def pair_costs(
    train: Float[Tensor, "train width"],
    space: PairSpace,
    pairs: PairRows,
    *,
    clusters: Int64[np.ndarray, " queries"],
    drawn: Drawn = "clusters",
    raw: tuple[Float[Tensor, "train features"], PairSpace] | None = None,
    widths: Sequence[int] | None = None,
    seed: int = 0,
) -> Costs:
    """The same for queries among documents, by nDCG@10. Other arguments, and errors, are those of `costs`.

    `clusters` numbers the queries that right documents connect, and `drawn` says what a new test side would change.
    """
    sizes = _sizes(space.queries.shape[1], widths)
    some = _queries(len(space.rows), seed)
    space = space._replace(queries=space.queries[some], rows=space.rows[some])
    count = len(some)
    without = None
    if raw is not None:
        without = (raw[0], torch.cat([raw[1].queries[some], raw[1].documents]))

    def ndcg(rows: Tensor, gallery: Tensor) -> np.ndarray:
        sides = (norms_and_directions(side)[1] for side in (rows[:count], gallery[count:]))
        narrow = space._replace(queries=next(sides), documents=next(sides))
        return judged(narrow, pairs, (1,)).per_query.ndcg_at_10

    return _costs(
        train,
        space.both,
        ndcg,
        raw=without,
        sizes=sizes,
        gallery=len(space.documents),
        metric="nDCG@10",
        interval_of=lambda values: over_new_queries(values, clusters[some.numpy()], drawn),
    )


def _sizes(full: int, widths: Sequence[int] | None) -> list[int]:
    sizes = sorted({full, *(_halvings(full) if widths is None else widths)}, reverse=True)
    if sizes[-1] < 1 or sizes[0] > full:
        wrong = sizes[-1] if sizes[-1] < 1 else sizes[0]
        raise InputError(f"a width must be from 1 to {full}, got {wrong}")
    return sizes


def _costs(
    train: Float[Tensor, "train width"],
    given: Float[Tensor, "rows width"],
    score: Score,
    *,
    raw: tuple[Float[Tensor, "train features"], Float[Tensor, "rows features"]] | None,
    sizes: Sequence[int],
    gallery: int,
    metric: str,
    interval_of: IntervalOf = over_queries,
) -> Costs:
    of_head = _scores(train, given, score, sizes)
    whole, _ = of_head[given.shape[1]]
    rows = given.double()
    coarse = score(rows, as_int8(rows))
    times = search_times(sizes, numbers=TIMED_NUMBERS)
    found = [
        WidthCost(
            width=size,
            truncated=float(first.mean()),
            truncated_change=interval_of(first - whole),
            reduced=float(leading.mean()),
            reduced_change=interval_of(leading - whole),
            bytes_float32=4 * size * MILLION,
            bytes_int8=size * MILLION,
            search_milliseconds=times[size],
        )
        for size, (first, leading) in of_head.items()
    ]
    return Costs(
        widths=tuple(found),
        int8=float(coarse.mean()),
        int8_change=interval_of(coarse - whole),
        queries=len(whole),
        gallery=gallery,
        metric=metric,
        raw=() if raw is None else _raw_costs(*raw, score, of_head, interval_of),
    )


def _raw_costs(
    train: Float[Tensor, "train features"],
    given: Float[Tensor, "rows features"],
    score: Score,
    of_head: Mapping[int, _ByQuery],
    interval_of: IntervalOf,
) -> tuple[RawCost, ...]:
    full = given.shape[1]
    found = []
    for size, (first, leading) in _scores(train, given, score, list(of_head)).items():
        with_first, with_leading = of_head[max(of_head) if size == full else size]
        found.append(
            RawCost(
                width=size,
                truncated=float(first.mean()),
                truncated_gain=interval_of(with_first - first),
                reduced=float(leading.mean()),
                reduced_gain=interval_of(with_leading - leading),
            )
        )
    return tuple(found)


def _scores(
    train: Float[Tensor, "train width"],
    given: Float[Tensor, "rows width"],
    score: Score,
    sizes: Sequence[int],
) -> dict[int, _ByQuery]:
    """The full width and those of `sizes` below it, from the widest down → the scores of first numbers and of principal directions."""
    full = given.shape[1]
    rows = given.double()
    whole = score(rows, rows)
    found = {full: (whole, whole)}
    narrow = sorted((size for size in sizes if size < full), reverse=True)
    if narrow:
        rotated = rows @ principal_directions(train)[:, : narrow[0]]
        for size in narrow:
            first, leading = (space[:, :size] for space in (rows, rotated))
            found[size] = (score(first, first), score(leading, leading))
    return found


def principal_directions(rows: Float[Tensor, "rows width"]) -> Float64[Tensor, "width width"]:
    """Orthogonal columns: the eigenvectors of the rows' second moments, the largest eigenvalue first."""
    moments = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for block in rows.split(_MOMENT_ROWS):  # features may be wide: no second table in float64
        wide = block.double()
        moments += wide.T @ wide
    _, vectors = torch.linalg.eigh(moments)
    leading_first: Tensor = vectors.flip(1)
    return leading_first


def hits(
    rows: Float[Tensor, "rows width"],
    labels: Int[Tensor, " rows"],
    queries: Int[Tensor, " queries"],
    *,
    gallery: Float[Tensor, "rows width"] | None = None,
) -> Bool[np.ndarray, " counted"]:
    """For each query that has another row of its class: whether its nearest other row, by cosine, is one."""
    _, directions = norms_and_directions(rows)
    _, searched = norms_and_directions(rows if gallery is None else gallery)
    ids = torch.arange(len(rows))
    found = retrieval(
        queries=(directions[queries], labels[queries]),
        gallery=(searched, labels),
        query_ids=ids[queries],
        gallery_ids=ids,
        recall_at=(1,),
    )
    assert found.per_query is not None
    return np.asarray(found.per_query.first_right_rank == 1)


def as_int8(rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Rows whose numbers are rounded to 255 steps between minus and plus the row's largest, as whole numbers."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    return (rows * (127 / largest.where(largest > 0, 1))).round()


def search_times(widths: Sequence[int], *, numbers: int = TIMED_NUMBERS) -> dict[int, float]:
    """Width → milliseconds for one query among a million rows: a product by numpy, and the ten largest of it.

    numpy's product reads rows about as fast as the memory gives them; torch's took up to three times as long. The fastest of some queries among random rows of `numbers` numbers, scaled to a million rows: others are slower only because
    of other work on the machine.
    """
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(numbers, generator=generator)
    times = dict.fromkeys(widths, math.inf)
    for _ in range(
        REPEATS
    ):  # all widths in turn: a moment of other work does not slow one of them alone
        for width in widths:
            count = max(1, numbers // width)
            gallery = flat[: count * width].view(count, width).numpy()
            query = torch.randn(width, generator=generator).numpy()
            began = time.perf_counter()
            torch.from_numpy(gallery @ query).topk(min(_NEIGHBORS, count))
            seconds = time.perf_counter() - began
            times[width] = min(times[width], 1e3 * seconds * MILLION / count)
    return times


def _halvings(full: int) -> list[int]:
    return [2**power for power in range(17) if LEAST_WIDTH <= 2**power < full]


def _queries(rows: int, seed: int) -> Int[Tensor, " queries"]:
    if rows <= MOST_QUERIES:
        return torch.arange(rows)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(rows, generator=generator)[:MOST_QUERIES].sort().values
