"""Exact nearest neighbours by dot product, one block of queries at a time.

Order is similarity descending, then row number ascending. A float32 similarity and its column fit together
in one 64-bit integer whose order is just that: on a CPU, partitioning and sorting integers does it, ties
and all. Any other dtype or device takes the k largest and mends the ties. The query itself is masked by its
number: with duplicates it is often not the first hit.
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

BLOCK_SIMILARITIES = 2**21
"""Similarities held at a time unless `block_rows` says otherwise: 8 MB of float32."""

_LEAST_PRODUCT_ROWS = 32
_ROWS_A_SORT = 16  # so many rows of keys stay in a core's cache


class Neighbors(NamedTuple):
    """The nearest rows of a block of queries."""

    queries: Int64[Tensor, " block"]
    columns: Int64[Tensor, "block k"]
    """Row numbers of the neighbours, nearest first; never the query's own."""


def neighbor_blocks(
    embeddings: Float[Tensor, "rows width"],
    queries: Int64[Tensor, " queries"],
    *,
    counts: Int64[Tensor, " queries"],
    block_rows: int | None = None,
) -> Iterator[Neighbors]:
    """The `counts` nearest rows of each of `queries` (row numbers), in blocks of consecutive queries.

    A block is as wide as its largest count, so queries of like counts belong together; counts above
    rows − 1 are cut to it. Similarity is the dot product of what is given, half precision taken as
    float32. Time grows as queries × rows, memory as `block_rows` × rows. Raises InputError where a row is
    NaN, infinite or so large that a similarity could overflow.
    """
    if block_rows is not None and block_rows < 1:
        raise InputError(f"block_rows must be at least 1, got {block_rows}")
    rows = embeddings.detach()
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    _check_range(rows)
    size = block_rows or max(_LEAST_PRODUCT_ROWS, BLOCK_SIMILARITIES // len(rows))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block, wanted in zip(queries.split(size), counts.split(size), strict=True):
            k = min(int(wanted.max()), len(rows) - 1)
            similarity = _similarities(rows, block)
            if similarity.dtype == torch.float32 and similarity.device.type == "cpu":
                yield Neighbors(block, _nearest_packed(similarity, k, pool))
            else:
                yield Neighbors(block, _nearest_mended(similarity, k))


def _similarities(
    rows: Float[Tensor, "rows width"], block: Int64[Tensor, " block"]
) -> Float[Tensor, "block rows"]:
    """Similarity of each query of `block` to every row; −∞ to itself."""
    # a BLAS rounds a product of few rows differently: padded, the block size cannot move a result
    padding = rows.new_zeros(max(0, _LEAST_PRODUCT_ROWS - len(block)), rows.shape[1])
    with _full_precision(rows.device.type):
        similarity = (torch.cat([rows[block], padding]) @ rows.T)[: len(block)]
    return similarity.scatter_(1, block[:, None], -torch.inf)


def _nearest_packed(
    similarity: Float32[Tensor, "block rows"], k: int, pool: ThreadPoolExecutor
) -> Int64[Tensor, "block {k}"]:
    """Columns of the `k` largest of each row, by sorting (similarity, column) as one integer.

    numpy sorts integers with vector instructions, and without the interpreter's lock.
    """
    similarity += 0.0  # −0 becomes +0: they are equal, their bits are not
    bits = similarity.numpy().view(np.int32)
    column = np.arange(bits.shape[1], dtype=np.int64)
    nearest = np.empty((len(bits), k), dtype=np.int64)

    def sort(start: int) -> None:
        here = slice(start, start + _ROWS_A_SORT)
        # the bits of negative floats, read as integers, grow the wrong way round
        ascending = bits[here] ^ ((bits[here] >> 31) & 0x7FFFFFFF)
        keys = np.left_shift(~ascending, 32, dtype=np.int64)
        keys |= column
        keys.partition(k - 1, axis=1)
        keys = keys[:, :k]
        keys.sort(axis=1)
        np.bitwise_and(keys, 0xFFFFFFFF, out=nearest[here])

    list(pool.map(sort, range(0, len(bits), _ROWS_A_SORT)))
    return torch.from_numpy(nearest)


def _nearest_mended(similarity: Float[Tensor, "block rows"], k: int) -> Int64[Tensor, "block {k}"]:
    """The same from the k largest as torch finds them, which are in any order where they are equal."""
    values, columns = similarity.topk(k + 1, dim=1)
    straddling = values[:, k - 1] == values[:, k]
    columns, order = columns[:, :k].sort(dim=1)
    values = values.gather(1, order)
    columns = columns.gather(1, values.argsort(dim=1, descending=True, stable=True))
    if straddling.any():
        whole = similarity[straddling].argsort(dim=1, descending=True, stable=True)
        columns[straddling] = whole[:, :k]
    return columns


def _check_range(rows: Float[Tensor, "rows width"]) -> None:
    # |a·b| ≤ ‖a‖‖b‖ bounds the partial sums too: what passes here cannot overflow into Inf − Inf
    squared = rows.double().square().sum(dim=1)
    bad = (~(squared < torch.finfo(rows.dtype).max / 2)).nonzero().flatten()
    if not len(bad):
        return
    row = int(bad[0])
    if not torch.isfinite(rows[row]).all():
        kind = "NaN" if torch.isnan(rows[row]).any() else "Inf"
        raise InputError(f"embeddings must be finite to be ranked, got {kind} in row {row}")
    raise InputError(
        f"dot products must fit {rows.dtype}, but row {row} has norm {float(rows[row].double().norm()):.3g}: "
        "scale the embeddings down"
    )


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """No TF32, bfloat16 or autocast, whatever the process has chosen: rounding decides ranks."""
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
