"""Open set: a threshold below which a query belongs to none of the classes of the gallery.

Phillips, Grother, Micheals 2011 (Handbook of Face Recognition, chapter 21) for the two rates. A query is *known* if a row
of its class is in the gallery. Each query serves twice: as it is, and with its class taken out of the gallery.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from lossgauge.errors import InputError
from lossgauge.stats.intervals import Interval, interval

FALSE_ALARM = 0.05


class OpenSet(NamedTuple):
    """A threshold on the similarity of the nearest row."""

    threshold: float
    false_alarm: float
    """Share of queries of unknown classes that reach it, at most the share that was asked for."""
    identified: Interval
    """Share of known queries whose nearest row reaches it and is of their class."""
    closed_set: float
    """The same without a threshold: R@1 of these queries. The difference is the price of saying "none"."""
    query_count: int


def open_set(
    nearest_right: Float64[np.ndarray, " queries"],
    nearest_wrong: Float64[np.ndarray, " queries"],
    *,
    false_alarm: float = FALSE_ALARM,
) -> OpenSet:
    """The lowest threshold that lets at most a share `false_alarm` of unknown queries pass, from the similarity of
    each query to its nearest row of its class and to its nearest row of another.

    Raises InputError without queries, for NaN, and for a share outside of (0, 1).
    """
    if not 0 < false_alarm < 1:
        raise InputError(f"false_alarm must be between 0 and 1, got {false_alarm}")
    if len(nearest_right) != len(nearest_wrong) or len(nearest_wrong) == 0:
        raise InputError(
            f"an open set needs both similarities of each query, got {len(nearest_right)} and {len(nearest_wrong)}"
        )
    if np.isnan(nearest_right).any() or np.isnan(nearest_wrong).any():
        raise InputError("similarities must not be NaN: leave out queries without such a row")
    wrong = np.sort(nearest_wrong)[::-1]
    allowed = int(false_alarm * len(wrong) * (1 + 1e-12))
    # just above the first one that must not pass; ties with it do not pass either
    threshold = float(np.nextafter(wrong[allowed], np.inf))
    right = (nearest_right > nearest_wrong) & (nearest_right >= threshold)
    identified = interval(right.astype(float).tolist())
    assert identified is not None
    return OpenSet(
        threshold=threshold,
        false_alarm=float((nearest_wrong >= threshold).mean()),
        identified=identified._replace(over="new queries of the same classes"),
        closed_set=float((nearest_right > nearest_wrong).mean()),
        query_count=len(wrong),
    )
