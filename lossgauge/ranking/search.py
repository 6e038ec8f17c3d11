"""Exact nearest neighbours by dot product or cosine, one block of queries at a time.

The order is similarity in float64 descending, then row number ascending. A float32 pass does most of the work: pairs
that the error bound of the float32 scores cannot decide are computed again in float64 (`scores.py`). A float32 score
and its column fit together in one 64-bit integer, so on a CPU, partitioning and sorting integers finds the largest.
The query itself is excluded by its number: with duplicates, it is often not its own first neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from lossgauge.errors import InputError
from lossgauge.ranking.scores import Scores, Similarity, exact_scores, prepared

BLOCK_SIMILARITIES = 2**21
"""Similarities held at a time unless `block_rows` says otherwise: 8 MB of float32."""

_SPARE = 8
"""This many rows more than needed are selected: in most cases, one of them is certainly outside the result."""
_LEAST_BLOCK_ROWS = 32
_ROWS_A_SORT = 16
_SAMPLE = 512
_FEW_COLUMNS = 1024
"""Up to so many columns, sorting all of a row costs less than finding which of its scores to sort."""


class Neighbors(NamedTuple):
    """The nearest rows of a block of queries."""

    queries: Int64[Tensor, " block"]
    columns: Int64[Tensor, "block k"]
    """Row numbers of the neighbours, nearest first; never the query's own."""


class _Leading(NamedTuple):
    """The largest float32 scores of each query of a block, in descending order."""

    columns: Int64[Tensor, "block k"]
    scores: Float32[Tensor, "block k"]


def neighbor_blocks(
    embeddings: Float[Tensor, "rows width"],
    queries: Int64[Tensor, " queries"],
    *,
    counts: Int64[Tensor, " queries"],
    block_rows: int | None = None,
    similarity: Similarity = "dot",
) -> Iterator[Neighbors]:
    """The `counts` nearest rows of each of `queries` (row numbers), in blocks of consecutive queries.

    A block is as wide as its largest count, so put queries with similar counts together; counts above
    rows − 1 are reduced to it. Time grows as queries × rows, memory as `block_rows` × rows and 12 bytes for each number
    of `embeddings`. If all similarities agree to seven digits even around their mean (for example because one row is a
    million times as long as the others), each one is computed twice, which takes about ten times as long.
    Raises InputError if a row is NaN or infinite, or, for cosines, all zeros.
    """
    if block_rows is not None and (not isinstance(block_rows, int) or block_rows < 1):
        raise InputError(f"block_rows must be a whole number of at least 1, got {block_rows!r}")
    rows = embeddings.detach()
    _check_finite(rows)
    scores = prepared(rows, similarity=similarity)
    size = block_rows or max(_LEAST_BLOCK_ROWS, BLOCK_SIMILARITIES // len(rows))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block, wanted in zip(queries.split(size), counts.split(size), strict=True):
            k = min(int(wanted.max()), len(rows) - 1)
            yield Neighbors(block, _nearest(scores, block, k, pool))


def _nearest(
    scores: Scores, block: Int64[Tensor, " block"], k: int, pool: ThreadPoolExecutor
) -> Int64[Tensor, "block {k}"]:
    """Columns of the `k` rows nearest to each query of `block`."""
    if not scores.error.any():  # all rows are equal
        places = torch.arange(k, device=block.device)
        return places + (places >= block[:, None])
    similarity = _similarities(scores, block)
    others, twice = similarity.shape[1] - 1, 2 * scores.error[block]
    width = min(k + _SPARE, others)
    leading = _leading(similarity, width, pool)
    # every row that may belong to the first k has at least this score
    least = leading.scores[:, k - 1] - twice
    nearest = _settled(scores, block, leading, twice)[:, :k]
    open_ = (leading.scores[:, -1] >= least).nonzero().flatten()
    if width < others and len(open_):
        similarity, least = similarity[open_], least[open_]
        width = int((similarity >= least[:, None]).sum(dim=1).max())
        leading = _leading(similarity, width, pool)
        nearest[open_] = _settled(scores, block[open_], leading, twice[open_])[:, :k]
    return nearest


def _similarities(scores: Scores, block: Int64[Tensor, " block"]) -> Float32[Tensor, "block rows"]:
    """Quick score of each row for each query of `block`; −∞ for the query itself."""
    with _full_precision(scores.quick.device.type):
        similarity = torch.addmm(scores.quick_added, scores.quick[block], scores.quick.T)
    return similarity.scatter_(1, block[:, None], -torch.inf)


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
