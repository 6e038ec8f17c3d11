"""The columns of a row that are computed over the samples of a batch: for many updates at once, where their batches have equal sizes.

A call of numpy costs more than the arithmetic of a few hundred samples, so equal sizes are stacked. The numbers are the same: numpy
sums each row of a matrix in the order of an array alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lossgauge.loop.numbers import Numbers
from lossgauge.types import Record

QUANTILES = {
    "embedding_gradient_p10": 0.1,
    "embedding_gradient_p50": 0.5,
    "embedding_gradient_p90": 0.9,
}


def gradient_columns(
    of_updates: Sequence[Float[Numbers, "2 samples"] | None],
) -> Iterator[tuple[Record, Numbers | None]]:
    """For each update the columns of its gradient at the embeddings, and the norms of the samples, ascending.

    From norms and tangent norms. No columns, and None, where they are not known.
    """
    for known in _stacked(of_updates, _gradients):
        if known is None:
            yield {}, None
        else:
            values, ascending = known
            yield dict(zip(_GRADIENT_COLUMNS, map(finite, values), strict=True)), ascending


def length_columns(of_updates: Sequence[Numbers | None]) -> Iterator[Record]:
    """For each update the columns of the norms of its embeddings, which may be None."""
    for values in _stacked(of_updates, _lengths):
        numbers = (None,) * 3 if values is None else map(finite, values)
        yield dict(zip(_LENGTH_COLUMNS, numbers, strict=True))


def class_counts(of_batches: Sequence[Int[Numbers, " rows"]]) -> list[tuple[int, int]]:
    """For the labels of each batch the number of classes, and of rows that are alone in their class."""
    return [(0, 0) if counts is None else counts for counts in _stacked(of_batches, _classes)]


def first_other_class(one: Int[Numbers, " rows"], other: Int[Numbers, " rows"]) -> int | None:
    """The first row that shows that two labels of the same rows make other classes; None if they only name them differently.

    Rows with a negative label in `other` are left out: losses such as cross-entropy ignore them.
    """
    if np.array_equal(one, other):
        return None
    kept = np.flatnonzero(other >= 0)
    # of each row, the first row of its class
    differ = np.flatnonzero(_first_of_class(one[kept]) != _first_of_class(other[kept]))
    return int(kept[differ[0]]) if len(differ) else None


def _first_of_class(labels: Int[Numbers, " rows"]) -> Int[Numbers, " rows"]:
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    return first[place]


def finite(value: float | None) -> float | None:
    """`value`, or None where it is not finite: a row has one way to say "not known"."""
    return value if value is not None and math.isfinite(value) else None


_GRADIENT_COLUMNS = ("embedding_gradient", *QUANTILES, "tangent_gradient")
_LENGTH_COLUMNS = ("embedding_norm", "embedding_norm_min", "embedding_norm_max")


def _stacked(
    arrays: Sequence[Numbers | None], compute: Callable[[Numbers], Sequence[object]]
) -> list:
    """What `compute` gives for each array, from arrays of equal shape as one; None without an array, or without samples."""
    alike: dict[tuple[Any, ...], list[tuple[int, Numbers]]] = defaultdict(list)
    for place, array in enumerate(arrays):
        if array is not None and array.shape[-1]:
            alike[array.shape, array.dtype].append((place, array))
    results: list = [None] * len(arrays)
    # a gradient that is not finite is a row as well, which says so
    with np.errstate(all="ignore"):
        for pairs in alike.values():
            whole = np.stack([array for _, array in pairs])
            for (place, _), result in zip(pairs, compute(whole), strict=True):
                results[place] = result
    return results


def _gradients(
    of_updates: Float[Numbers, "updates 2 samples"],
) -> list[tuple[list[float], Numbers]]:
    norms, tangents = of_updates[:, 0], of_updates[:, 1]
    ascending = np.sort(norms, axis=1)
    columns = [
        _means(norms),
        *(_quantile(ascending, share) for share in QUANTILES.values()),
        _means(np.minimum(tangents, norms)),
    ]
    return list(zip(np.stack(columns, axis=1).tolist(), ascending, strict=True))


def _lengths(of_updates: Float[Numbers, "updates samples"]) -> list[list[float]]:
    columns = (_means(of_updates), of_updates.min(axis=1), of_updates.max(axis=1))
    values: list[list[float]] = np.stack(columns, axis=1).tolist()
    return values


def _classes(of_batches: Int[Numbers, "batches rows"]) -> list[tuple[int, int]]:
    ascending = np.sort(of_batches, axis=1)
    # whether a class begins here, with one more beginning after the last row
    begins = np.ones((len(ascending), ascending.shape[1] + 1), dtype=bool)
    np.not_equal(ascending[:, 1:], ascending[:, :-1], out=begins[:, 1:-1])
    counts = np.count_nonzero(begins[:, :-1], axis=1)
    lone = np.count_nonzero(begins[:, :-1] & begins[:, 1:], axis=1)
    return list(zip(counts.tolist(), lone.tolist(), strict=True))


def _means(of_updates: Float[Numbers, "updates samples"]) -> Float[Numbers, " updates"]:
    means: Numbers = of_updates.sum(axis=1) / of_updates.shape[1]
    return means


def _quantile(
    ascending: Float[Numbers, "updates samples"], share: float
) -> Float[Numbers, " updates"]:
    """Interpolated linearly between two values."""
    at = share * (ascending.shape[1] - 1)
    low = int(at)
    value: Numbers = ascending[:, low]
    return value + (at - low) * (ascending[:, low + 1] - value) if at > low else value
