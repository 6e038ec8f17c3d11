"""One pass over the rows of an array that may be on disk: class moments of the directions, norms, hashes, and the
rows nearest to some queries.

Memory does not grow with the rows, but for eight bytes each. Blocks are given to lanes in turn, and each lane adds its blocks in order:
so the numbers do not depend on the number of threads. While threads work, the next block is read.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float64, Int64

from lossgauge.diagnosis.block_reader import block_reader, some_rows
from lossgauge.diagnosis.lane import Lane
from lossgauge.diagnosis.parts import PartMeasures, Queries, merge_candidates
from lossgauge.diagnostics.moments import Moments, moments
from lossgauge.errors import DataError
from lossgauge.machine import torch_threads, usable_cores
from lossgauge.ranking.scores import norms_and_directions

LANES = 4
LANE_BYTES = 2**28
"""One lane where the class means take more."""
BLOCK_BYTES = 2**24
CENTER_ROWS = 4096
Progress = Callable[[int], None]
"""Is called with the number of rows since the last call."""


def measure_part(
    array: np.ndarray,
    groups: Int64[np.ndarray, " rows"],
    *,
    class_count: int,
    first_row: int = 0,
    queries: Queries | None = None,
    neighbors: int = 10,
    exact: bool = False,
    where: Callable[[int], str] = "row {}".format,
    progress: Progress = lambda rows: None,
) -> PartMeasures:
    """The measures of an array whose rows have the numbers from `first_row` on; `groups` are their classes, from 0.

    The covariance is the sum of float32 products of centred blocks in float64, with an error of about 1e-7 of its largest
    entry; if `exact`, all is float64, and the array is held in memory. Raises DataError for NaN and infinities.
    """
    width = array.shape[1]
    center = _center(array)
    drawn = np.random.default_rng(0).integers(0, 2**63, width, dtype=np.uint64)
    keys = np.bitwise_or(drawn, np.uint64(1), dtype=np.uint64)
    hashes = np.empty(len(array), np.uint64)
    count = LANES if class_count * width * 8 <= LANE_BYTES else 1
    block_rows = max(1, min(BLOCK_BYTES // (4 * width), -(-len(array) // count)))
    lanes = [
        Lane(block_rows, width, class_count, center, keys, queries, neighbors, covariance=not exact)
        for _ in range(count)
    ]

    def work(lane: Lane, first: int, last: int) -> None:
        bad = lane.add(groups[first:last], hashes[first:last], first_row + first)
        if bad >= 0:
            row = lane.rows[bad]
            what = "NaN" if np.isnan(row).any() else "Inf"
            raise DataError(
                f"embeddings must be finite in float32, but {where(first_row + first + bad)} holds {what}: "
                "remove such rows, or compute them again"
            )
        progress(last - first)

    with torch_threads(1), ThreadPoolExecutor(usable_cores()) as pool, block_reader(array) as read:
        for number, first in enumerate(range(0, len(array), block_rows)):
            lane, last = lanes[number % count], min(first + block_rows, len(array))
            lane.finish()
            lane.exponents = read(lane.rows[: last - first], first)
            lane.pending = pool.submit(work, lane, first, last)
        for lane in lanes:
            lane.finish()

    candidates = None
    if queries is not None:
        offset = queries.directions @ center
        candidates = merge_candidates([lane.candidates(offset) for lane in lanes])
    whole = reduce(Lane.joined, lanes)
    zero = np.sort(np.concatenate(whole.zero))
    # few rows have their moments in another form
    if exact or whole.norms.rows < width:
        keep = np.setdiff1d(np.arange(len(array)), zero - first_row)
        found = _exact_moments(array, groups, keep)
    else:
        found = whole.moments()
    return PartMeasures(found, whole.norms, hashes, zero, candidates)


def _exact_moments(array: np.ndarray, groups: np.ndarray, keep: np.ndarray) -> Moments | None:
    if not len(keep):
        return None
    rows = torch.from_numpy(some_rows(array, keep).astype(np.float64))
    return moments(norms_and_directions(rows)[1], groups[keep])


def _center(array: np.ndarray) -> Float64[np.ndarray, " width"]:
    """The mean direction of the first rows: near the mean of all, so that centred rows are small."""
    some = np.empty((min(CENTER_ROWS, len(array)), array.shape[1]), np.float32)
    with block_reader(array) as read:
        read(some, 0)
    some = some[np.isfinite(some).all(axis=1)]
    if not len(some):
        return np.zeros(array.shape[1])
    _, directions = norms_and_directions(torch.from_numpy(some).double())
    center: np.ndarray = directions.mean(dim=0).numpy()
    return center
