"""Exact nearest neighbours by dot product, cosine or Euclidean distance, one block of queries at a time.

The order is similarity in float64 descending, then row number ascending. A float32 pass does most of the work: pairs
that the error bound of the float32 scores cannot decide are computed again in float64 (`scores.py`). A float32 score
and its column fit together in one 64-bit integer, so on a CPU, partitioning and sorting integers finds the largest.
Rows that are left out for a query, such as itself, are left out by their numbers: with duplicates, a query is often not
its own first neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.ranking.query_set import QuerySet
from lossgauge.ranking.scores import Scores, Similarity, exact_scores, prepared

BLOCK_SIMILARITIES = 2**21
"""Similarities held at a time unless `block_rows` says otherwise: 8 MB of float32."""

_SPARE = 8
"""This many rows more than needed are selected: in most cases, one of them is certainly outside the result."""
_LEAST_BLOCK_ROWS = 32
_ROWS_A_SORT = 16
_SAMPLE = 512
_ROUNDED = 1.05
"""More than the rounding of a float32 score plus or minus twice its error."""
_FEW_COLUMNS = 1024
"""Up to so many columns, sorting all of a row costs less than finding which of its scores to sort."""


class _Leading(NamedTuple):
    """The largest float32 scores of each query of a block, in descending order."""

    columns: Int64[Tensor, "block k"]
    scores: Float32[Tensor, "block k"]


@dataclass(frozen=True)
class Neighbors:
    """The nearest gallery rows of a block of queries."""

    queries: Int64[Tensor, " block"]
    columns: Int64[Tensor, "block k"]
    """Gallery rows, nearest first. Of a query with fewer than k candidates, the last ones have no meaning."""
    _rows: Int64[Tensor, " block"]
    """The row of each query."""
    _scores: Scores
    _similarity: Float32[Tensor, "block gallery"]

    def nearest_of(
        self, place: Int64[Tensor, " pairs"], column: Int64[Tensor, " pairs"]
    ) -> tuple[Int64[Tensor, " some"], Int64[Tensor, " some"]]:
        """For each query among `place` (in the block, ascending): the nearest of its rows `column`, and the rank of that row.

        The rank counts from 1, over all candidates of the query. Time grows as the number of queries × gallery.
        """
        places, query = place.unique_consecutive(return_inverse=True)
        rows = self._rows[places]
        exact = self._exact(rows, query, column)
        order = np.lexsort([key.cpu().numpy() for key in (column, -exact, query)])
        first = query.bincount().cumsum(0).roll(1)
        first[0] = 0
        best = torch.from_numpy(order).to(column.device)[first]
        nearest, score = column[best], exact[best]

        quick = self._similarity[places, nearest]
        twice = 2 * _ROUNDED * self._scores.error[rows]
        low, high = quick - twice, quick + twice
        rank = 1 + _count_from(
            self._similarity, places, torch.nextafter(high, high.new_tensor(torch.inf))
        )
        # scores in between do not decide; one of them is that of the nearest row itself
        open_ = (_count_from(self._similarity, places, low) > rank).nonzero().flatten()
        if not len(open_):
            return nearest, rank
        between = self._similarity[places[open_]]
        between = (between >= low[open_, None]) & (between <= high[open_, None])
        row, column = between.nonzero(as_tuple=True)
        exact, query = self._exact(rows[open_], row, column), open_[row]
        before = exact > score[query]
        before |= (exact == score[query]) & (column < nearest[query])
        return nearest, rank.index_add_(0, query, before.long())

    def _exact(self, rows: Tensor, query: Tensor, column: Tensor) -> Tensor:
        if not self._scores.error.any():  # all rows are equal
            return torch.zeros(len(query), dtype=torch.float64, device=query.device)
        return exact_scores(self._scores, rows, query, column)


def _count_from(
    similarity: Float32[Tensor, "block gallery"],
    places: Int64[Tensor, " some"],
    least: Float32[Tensor, " some"],
) -> Int64[Tensor, " some"]:
    """How many scores of some rows are `least` or larger."""
    if similarity.device.type != "cpu":
        return (similarity[places] >= least[:, None]).sum(dim=1)
    values = similarity.numpy()  # row by row it copies nothing
    pairs = zip(places.tolist(), least.numpy(), strict=True)
    return torch.tensor([np.count_nonzero(values[place] >= limit) for place, limit in pairs])


def neighbor_blocks(
    of: QuerySet,
    queries: Int64[Tensor, " queries"],
    *,
    counts: Int64[Tensor, " queries"],
    block_rows: int | None = None,
    similarity: Similarity = "dot",
) -> Iterator[Neighbors]:
    """The `counts` nearest gallery rows of each of `queries` (their numbers), in blocks of consecutive queries.

    A block is as wide as its largest count, so put queries with similar counts together; counts above the number of
    candidates are reduced to it. Time grows as queries × gallery, memory as `block_rows` × gallery and 12 bytes for each
    number of the rows. If all similarities agree to seven digits even around their mean (for example because one row is a
    million times as long as the others), each one is computed twice, which takes about ten times as long.
    Raises InputError if a row is NaN or infinite, or, for cosines, all zeros.
    """
    if block_rows is not None and (not isinstance(block_rows, int) or block_rows < 1):
        raise InputError(f"block_rows must be a whole number of at least 1, got {block_rows!r}")
    of = of._replace(rows=of.rows.detach())
    _check_finite(of.rows)
    scores = prepared(of.rows, similarity=similarity)
    size = block_rows or max(_LEAST_BLOCK_ROWS, BLOCK_SIMILARITIES // of.gallery_count)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block, wanted in zip(queries.split(size), counts.split(size), strict=True):
            yield _neighbors(of, scores, block, int(wanted.max()), pool)


def _neighbors(
    of: QuerySet,
    scores: Scores,
    block: Int64[Tensor, " block"],
    most: int,
    pool: ThreadPoolExecutor,
) -> Neighbors:
    """The neighbours of each query of `block`, `most` at most."""
    similarity = _similarities(of, scores, block)
    rows, candidates = of.query_rows[block], of.candidate_count[block]
    k = min(most, int(candidates.max()))
    columns = _nearest(scores, rows, candidates, similarity, k, pool)
    return Neighbors(block, columns, rows, scores, similarity)


def _nearest(
    scores: Scores,
    rows: Int64[Tensor, " block"],
    candidates: Int64[Tensor, " block"],
    similarity: Float32[Tensor, "block gallery"],
    k: int,
    pool: ThreadPoolExecutor,
) -> Int64[Tensor, "block {k}"]:
    """The `k` nearest columns of each query, the row of which is in `rows`."""
    if not scores.error.any():  # all rows are equal
        return _in_order(similarity == 0, k)
    others, twice = int(candidates.max()), 2 * scores.error[rows]
    width = min(k + _SPARE, others)
    leading = _leading(similarity, width, pool)
    # every row that may belong to the first k candidates has at least this score
    last = candidates.clamp(max=k)[:, None] - 1
    least = leading.scores.gather(1, last)[:, 0] - twice
    nearest = _settled(scores, rows, leading, twice)[:, :k]
    open_ = (leading.scores[:, -1] >= least).nonzero().flatten()
    if width < others and len(open_):
        similarity, least = similarity[open_], least[open_]
        width = int((similarity >= least[:, None]).sum(dim=1).max())
        leading = _leading(similarity, width, pool)
        nearest[open_] = _settled(scores, rows[open_], leading, twice[open_])[:, :k]
    return nearest


def _in_order(candidate: Bool[Tensor, "block gallery"], k: int) -> Int64[Tensor, "block {k}"]:
    """The columns of the first `k` candidates of each row; 0 where there are fewer."""
    number = candidate.cumsum(dim=1)
    row, column = (candidate & (number <= k)).nonzero(as_tuple=True)
    columns = torch.zeros(len(candidate), k, dtype=torch.int64, device=candidate.device)
    columns[row, number[row, column] - 1] = column
    return columns


def _similarities(
    of: QuerySet, scores: Scores, block: Int64[Tensor, " block"]
) -> Float32[Tensor, "block gallery"]:
    """Quick score of each gallery row for each query of `block`; −∞ for rows that are left out."""
    end = of.gallery_count
    with _full_precision(scores.quick.device.type):
        similarity = torch.addmm(
            scores.quick_added[:end], scores.quick[of.query_rows[block]], scores.quick[:end].T
        )
    for matches in of.left_out:
        similarity[matches.pairs(block)] = -torch.inf
    return similarity


def _leading(
    similarity: Float32[Tensor, "block rows"], width: int, pool: ThreadPoolExecutor
) -> _Leading:
    if similarity.device.type == "cpu":
        return _leading_packed(similarity, width, pool)
    scores, columns = similarity.topk(
        width, dim=1
    )  # equal ones in any order: their order is decided later
    return _Leading(columns, scores)


def _leading_packed(
    similarity: Float32[Tensor, "block rows"], width: int, pool: ThreadPoolExecutor
) -> _Leading:
    """By sorting (score, column) as one integer; equal scores in order of their columns.

    A sample of a row's scores estimates a limit that the first `width` scores most likely exceed: the scores above
    it are counted and sorted. numpy does this with vector instructions and without the interpreter lock.
    """
    similarity += 0.0  # −0 becomes +0: they are equal, but their bits differ
    values = similarity.numpy()
    bits = values.view(np.int32)
    every = np.arange(bits.shape[1])
    columns = np.empty((len(bits), width), dtype=np.int64)
    leading = np.empty((len(bits), width), dtype=np.int32)
    few = len(every) <= _FEW_COLUMNS
    rows_a_sort = 8 * _ROWS_A_SORT if few else _ROWS_A_SORT

    def sort(start: int) -> None:
        rows = slice(start, min(start + rows_a_sort, len(bits)))
        if few:
            keep(rows, _packed(bits[rows], every))
            return
        for row, floor in enumerate(_floors(values[rows], width), start):
            column = np.flatnonzero(values[row] >= floor)
            if len(column) < width:
                column = every
            keep(row, _packed(bits[row].take(column), column))

    def keep(rows: slice | int, keys: np.ndarray) -> None:
        if keys.shape[-1] > 4 * width:
            keys.partition(width - 1)
            keys = keys[..., :width]
        keys.sort()
        np.bitwise_and(keys[..., :width], 0xFFFFFFFF, out=columns[rows])
        leading[rows] = _reordered(~(keys[..., :width] >> 32).astype(np.int32))

    list(pool.map(sort, range(0, len(bits), rows_a_sort)))
    return _Leading(torch.from_numpy(columns), torch.from_numpy(leading.view(np.float32)))


def _packed(bits: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(score, column) as one integer each, the largest score first."""
    keys: np.ndarray = np.left_shift(~_reordered(bits), 32, dtype=np.int64)
    keys |= columns
    return keys


def _floors(values: Float32[np.ndarray, "block rows"], width: int) -> Float32[np.ndarray, " block"]:
    """For each row, a limit with about `width` of its scores above it, and rarely fewer."""
    sample = np.sort(values[:, :: max(1, values.shape[1] // _SAMPLE)], axis=1)
    above = width / values.shape[1] * sample.shape[1]
    # a sampled count n has a standard deviation of √n: add four of them, and a little more if n is small
    at = min(int(above + 4 * above**0.5 + 4), sample.shape[1])
    return sample[:, -at]


def _reordered(bits: np.ndarray) -> np.ndarray:
    """Converts the bits of floats to integers with the same order, and back."""
    integers: np.ndarray = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return integers


def _settled(
    scores: Scores,
    block: Int64[Tensor, " block"],
    leading: _Leading,
    twice: Float32[Tensor, " block"],
) -> Int64[Tensor, "block k"]:
    """Leading columns in the order of their exact scores, then of their numbers.

    Only runs whose neighbours differ by at most twice the error of a score are sorted: the other order is certain.
    """
    columns, quick = leading
    close = quick[:, :-1] - quick[:, 1:] <= twice[:, None]
    in_run = torch.zeros_like(columns, dtype=torch.bool)
    in_run[:, :-1] |= close
    in_run[:, 1:] |= close
    row, place = in_run.nonzero(as_tuple=True)
    if not len(row):
        return columns
    column = columns[row, place]
    exact = exact_scores(scores, block, row, column)
    goes_on = torch.zeros_like(in_run)
    goes_on[:, 1:] = close
    run = (~goes_on[row, place]).cumsum(0)
    same = run[1:] == run[:-1]
    wrong = (exact[1:] > exact[:-1]) | ((exact[1:] == exact[:-1]) & (column[1:] < column[:-1]))
    unsorted = torch.zeros(int(run[-1]) + 1, dtype=torch.bool, device=run.device)
    unsorted[run[1:][same & wrong]] = True
    chosen = unsorted[run].nonzero().flatten()
    if len(chosen):
        keys = (column[chosen], -exact[chosen], run[chosen])
        order = torch.from_numpy(np.lexsort([key.cpu().numpy() for key in keys])).to(chosen.device)
        columns[row[chosen], place[chosen]] = column[chosen[order]]
    return columns


def _check_finite(rows: Float[Tensor, "rows width"]) -> None:
    bad = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten()
    if len(bad):
        kind = "NaN" if torch.isnan(rows[bad[0]]).any() else "Inf"
        raise InputError(f"embeddings must be finite to be ranked, got {kind} in row {int(bad[0])}")


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """No TF32, bfloat16 or autocast, even if the process enabled them: the error bound is only valid for float32."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
