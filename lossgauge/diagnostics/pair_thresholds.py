"""Thresholds that tell right documents from others: from pairs of a query and a document, with intervals over new queries.

A *genuine* pair is a query with a document that is right for it, an *impostor* pair one with any other document. Pairs of one query are
alike, so the intervals draw queries again, with all their pairs; the documents stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lossgauge.diagnostics.error_rates import (
    FARS,
    RESAMPLES,
    OperatingPoint,
    Pairs,
    Rates,
    Weights,
    rates,
    rates_with_intervals,
)
from lossgauge.errors import InputError
from lossgauge.stats.intervals import Interval


class PairThresholds(NamedTuple):
    """Thresholds over pairs of a query and a document, with 95 % intervals over new queries."""

    eer: Interval
    """Equal error rate: 0 if every genuine pair is more similar than every impostor pair, about 0.5 by chance."""
    eer_threshold: float
    at_far: tuple[OperatingPoint, ...]
    """The strictest last."""
    best_threshold: float
    """The threshold with the highest balanced accuracy."""
    best_accuracy: Interval
    """(TPR + 1 − FAR) / 2 at that threshold, in [0.5, 1]."""
    genuine_count: int
    impostor_count: int
    query_count: int


def pair_thresholds(
    genuine: Pairs,
    impostor: Pairs,
    *,
    fars: Sequence[float] = FARS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairThresholds:
    """Thresholds over pairs (query, document, similarity). Higher is more alike. Time grows as pairs × `resamples`.

    Raises InputError unless there is a genuine and an impostor pair.
    """
    if not len(genuine.score) or not len(impostor.score):
        raise InputError(
            "thresholds need a pair of a query with a right document and one with another, got "
            f"{len(genuine.score)} and {len(impostor.score)}"
        )
    joined = Pairs(*(np.concatenate(parts) for parts in zip(genuine, impostor, strict=True)))
    of = rates(joined, np.arange(len(joined.score)) < len(genuine.score))
    queries = len(np.unique(joined.first))
    found = rates_with_intervals(
        of,
        _weights(of, resamples, seed),
        fars,
        degrees=queries - 1,
        over="new queries",
        impostors="pairs with another document",
    )
    return PairThresholds(**found._asdict(), query_count=queries)


def _weights(of: Rates, resamples: int, seed: int) -> Iterator[Weights]:
    """Weights of the pairs in each resample of the queries."""
    generator = np.random.default_rng(seed)
    queries = np.unique(np.concatenate([of.genuine.first, of.impostor.first]))
    places = [np.searchsorted(queries, pairs.first) for pairs in (of.genuine, of.impostor)]
    for _ in range(resamples):
        weight = generator.multinomial(len(queries), np.full(len(queries), 1 / len(queries)))
        yield weight[places[0]].astype(float), weight[places[1]].astype(float)
