"""What trained heads answered, by seed and query; differences pair both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from lossgauge.errors import InputError


class Answers(NamedTuple):
    """The answers of one loss: a hit (1 or 0), or a precision, of every query in every seed."""

    values: Float[np.ndarray, "seeds queries"]
    seeds: tuple[int, ...]
    """Of the rows. Empty if no seed is involved, as for frozen features: then `values` has one row."""
    queries: Shaped[np.ndarray, " queries"]
    """Ids of the queries."""


def differences(left: Answers, right: Answers) -> Float[np.ndarray, "seeds queries"]:
    """`left` − `right` for the seeds that both have, in increasing order.

    A side without seeds is compared with every seed of the other. InputError if the queries are not the same in the same
    order, or if no seed is shared.
    """
    rows = [side.values for side in (left, right)]
    if shared := _shared_seeds([left, right]):
        rows = [_rows(side, shared) for side in (left, right)]
    paired: np.ndarray = np.subtract(rows[0], rows[1], dtype=float)
    return paired


def group_mean(group: Sequence[Answers]) -> Answers:
    """The mean of several losses, by seed and query, for the seeds that all of them have: one side of a group contrast."""
    shared = _shared_seeds(group)
    mean = np.mean([_rows(side, shared) for side in group], axis=0)
    return Answers(mean, shared, group[0].queries)


def _shared_seeds(sides: Sequence[Answers]) -> tuple[int, ...]:
    """The seeds of all sides that have any; empty if none has."""
    first = sides[0].queries
    for side in sides[1:]:
        if not np.array_equal(first, side.queries):
            count = len(set(first.tolist()) ^ set(side.queries.tolist()))
            what = f"{count} queries are on one side only" if count else "their order differs"
            raise InputError(f"losses that are compared must answer the same queries, but {what}")
    seeded = [side.seeds for side in sides if side.seeds]
    shared = set.intersection(*map(set, seeded)) if seeded else set()
    if seeded and not shared:
        listed = " and ".join(map(str, dict.fromkeys(seeded)))
        raise InputError(f"losses that are compared must share a seed, got seeds {listed}")
    return tuple(sorted(shared))


def _rows(side: Answers, seeds: tuple[int, ...]) -> np.ndarray:
    return side.values[[side.seeds.index(seed) for seed in seeds]] if side.seeds else side.values
