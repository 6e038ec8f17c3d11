"""The sums of every n-th block of rows: class moments, covariance, norms, and the rows nearest to the queries."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt64

from lossgauge.diagnosis.parts import Candidates, Nearest, Norms, Queries, merge_norms, norms_of
from lossgauge.diagnostics.moments import Moments
from lossgauge.kernels.nearest import NearestTask, keep_nearest
from lossgauge.kernels.row_block import RowBlock, pass_rows

PRODUCT_ROWS = 4096
"""Rows of one matrix product: the scores of 256 queries fit in the cache."""
SPARE = 8
"""Rows kept beyond those that are needed: float32 scores may order close ones wrongly, and float64 decides."""


_ODD = np.uint64(0x9E3779B97F4A7C15)


class Lane:
    """The sums of the blocks that one lane has processed."""

    def __init__(
        self,
        block_rows: int,
        width: int,
        class_count: int,
        center: Float64[np.ndarray, " width"],
        keys: UInt64[np.ndarray, " width"],
        queries: Queries | None,
        neighbors: int,
        *,
        covariance: bool,
    ) -> None:
        self.rows: Float32[np.ndarray, "block width"] = np.empty((block_rows, width), np.float32)
        self.exponents: Int64[np.ndarray, " block"] | None = None
        """Of the powers of two by which the rows were divided."""
        self.pending: Future[None] | None = None
        self.norms = Norms(0, 0.0, np.inf, 0.0, 0, -1)
        self.zero: list[np.ndarray] = [np.empty(0, np.int64)]
        self._centered = np.empty_like(self.rows)
        self._center, self._keys = center, keys
        self._sizes, self._scatter = np.zeros(class_count), np.zeros(class_count)
        self._mean = np.zeros((class_count, width))
        self._product = torch.zeros(width, width, dtype=torch.float64) if covariance else None
        self._queries = queries
        self._nearest: list[np.ndarray] = []
        if queries is not None:
            self._rows_of_queries = torch.from_numpy(queries.directions.astype(np.float32))
            self._scores = torch.empty(len(queries.rows) * min(PRODUCT_ROWS, block_rows))
            for kept in (neighbors + SPARE, SPARE, SPARE):
                self._nearest.append(np.full((len(queries.rows), kept), -np.inf, np.float32))
                self._nearest.append(np.full((len(queries.rows), kept), -1, np.int64))

    def finish(self) -> None:
        """Wait for the block in progress; raises its error."""
        if self.pending is not None:
            self.pending.result()

    def add(self, groups: np.ndarray, hashes: np.ndarray, first_row: int) -> int:
        """Add the first rows of `self.rows`, one for each of `groups`. Returns the first that is not finite, or −1."""
        count = len(groups)
        group, norms = groups.copy(), np.empty(count)
        rows, centered = self.rows[:count], self._centered[:count]
        block = RowBlock(
            rows,
            group,
            self._center,
            centered,
            norms,
            hashes,
            self._keys,
            self._sizes,
            self._mean,
            self._scatter,
        )
        if (bad := pass_rows(block)) >= 0:
            return bad
        if self.exponents is not None:
            norms = np.ldexp(norms, self.exponents[:count].astype(np.int32))
            hashes += self.exponents[:count].view(np.uint64) * _ODD
        zero = np.flatnonzero(group < 0)
        self.zero.append(zero + first_row)
        self.norms = merge_norms(self.norms, norms_of(norms, zero + first_row))
        for start in range(0, count, PRODUCT_ROWS):
            part = torch.from_numpy(centered[start : start + PRODUCT_ROWS])
            if self._product is not None:
                self._product += torch.mm(part.T, part)
            if self._queries is not None:
                scores = self._scores[: len(self._rows_of_queries) * len(part)]
                scores = scores.view(len(self._rows_of_queries), len(part))
                torch.mm(self._rows_of_queries, part.T, out=scores)
                task = NearestTask(
                    scores.numpy(),
                    group[start : start + PRODUCT_ROWS],
                    self._queries.groups,
                    self._queries.rows,
                    *self._nearest,
                )
                keep_nearest(task, first_row + start)
        return -1

    def joined(self, other: Lane) -> Lane:
        """This lane, with the sums of another one; Chan, Golub, LeVeque 1979."""
        sizes = self._sizes + other._sizes
        share = np.divide(other._sizes, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        gap = other._mean - self._mean
        self._scatter += other._scatter + np.square(gap).sum(axis=1) * self._sizes * share
        self._mean += gap * share[:, None]
        self._sizes = sizes
        if self._product is not None and other._product is not None:
            self._product += other._product
        self.norms = merge_norms(self.norms, other.norms)
        self.zero += other.zero
        return self

    def moments(self) -> Moments:
        """The moments of the blocks, which have at least as many rows as the width."""
        assert self._product is not None
        labels = np.flatnonzero(self._sizes)
        sizes, mean = self._sizes[labels], self._mean[labels]
        away = torch.from_numpy(sizes @ mean / sizes.sum() - self._center)
        return Moments(
            torch.from_numpy(labels),
            torch.from_numpy(sizes).long(),
            torch.from_numpy(mean),
            torch.from_numpy(self._scatter[labels]),
            self._product - float(sizes.sum()) * torch.outer(away, away),
        )

    def candidates(self, offset: Float64[np.ndarray, " queries"]) -> Candidates:
        """With the scores that the rows would have without the center."""
        found = []
        for score, row in zip(self._nearest[::2], self._nearest[1::2], strict=True):
            found.append(Nearest(score.astype(np.float64) + offset[:, None], row))
        return Candidates(*found)
