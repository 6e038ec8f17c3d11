"""Whether the seeds of a study are for or against one comparison, or one ordering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from lossgauge.claims.statements import Comparison, Ordering
from lossgauge.results.columns import COLUMNS
from lossgauge.stats.intervals import (
    Correlation,
    Interval,
    interval,
    known,
    rank_correlation,
)
from lossgauge.stats.number_format import counted
from lossgauge.types import Record

Side = Literal["for", "against", "open"]
Runs = Mapping[str, Mapping[int, Record]]
"""Name of a loss → seed → summary row."""

LEVEL = 0.05
"""Of every p-value; intervals are 95 % accordingly."""


class ComparisonResult(NamedTuple):
    """One comparison, and on which side of it the seeds are."""

    comparison: Comparison
    side: Side
    difference: Interval | None
    """`left` − `right`, for both directions of a claim; None if it cannot be computed."""
    reason: str = ""
    """Why it is open; empty where it is not."""
    corrected_p_value: float | None = None
    """Holm's correction over the comparisons of a claim on a dataset; None before the correction, or without a p-value."""

    @property
    def holds_up(self) -> bool:
        """Whether it has a side after the correction as well."""
        return self.corrected_p_value is not None and self.corrected_p_value < LEVEL


class OrderingResult(NamedTuple):
    """One ordering, and on which side of it the losses are."""

    ordering: Ordering
    side: Side
    correlation: Correlation | None
    losses: tuple[str, ...]
    """Those that are points of it."""
    reason: str = ""


def compare(comparison: Comparison, runs: Runs) -> ComparisonResult:
    """A comparison over the seeds that both losses have, before any correction.

    Open if the quantity is missing in a shared seed: "not reached" means late, and without that seed the fast
    seeds would decide.
    """
    left, right = runs[comparison.left], runs[comparison.right]
    shared = sorted(left.keys() & right.keys())
    if not shared:
        reason = f"{comparison.left} and {comparison.right} share no seed"
        return ComparisonResult(comparison, "open", None, reason)
    pairs = [
        (known(left[seed].get(comparison.column)), known(right[seed].get(comparison.column)))
        for seed in shared
    ]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    if len(differences) < len(pairs):
        return ComparisonResult(comparison, "open", None, _gaps(comparison, pairs))
    difference = interval(differences)
    if difference is None or difference.half_width is None:
        if difference is None or difference.size == 1:
            return ComparisonResult(comparison, "open", difference, "one seed shows no spread")
        return ComparisonResult(comparison, "open", difference, difference.why_none)
    if not difference.excludes_zero:
        return ComparisonResult(comparison, "open", difference, "no clear difference")
    as_claimed = (difference.mean > 0) == (comparison.direction == "higher")
    return ComparisonResult(comparison, "for" if as_claimed else "against", difference)


def order(ordering: Ordering, runs: Runs) -> OrderingResult:
    """An ordering over the losses that have both quantities, at their means over the seeds that all of them share."""
    losses = [loss for loss in ordering.losses if loss in runs]
    seeds = set.intersection(*(set(runs[loss]) for loss in losses)) if losses else set()
    means = {
        loss: pair
        for loss in losses
        if (pair := _means(runs[loss], sorted(seeds), (ordering.x, ordering.y)))
    }
    correlation = rank_correlation([x for x, _ in means.values()], [y for _, y in means.values()])
    points = tuple(means)
    if losses and not seeds:
        return OrderingResult(ordering, "open", None, points, "the losses share no seed")
    if correlation is None:
        too_few = f"{counted(len(points), 'loss')} with both numbers; a rank correlation needs three that differ"
        return OrderingResult(ordering, "open", None, points, too_few)
    if len(seeds) == 1:
        return OrderingResult(ordering, "open", correlation, points, "one seed shows no spread")
    if correlation.p_value >= LEVEL:
        return OrderingResult(
            ordering, "open", correlation, points, "not distinguishable from chance"
        )
    return OrderingResult(
        ordering, "for" if correlation.value > 0 else "against", correlation, points
    )


def _gaps(comparison: Comparison, pairs: Sequence[tuple[float | None, float | None]]) -> str:
    """The number of seeds in which each side does not have the quantity."""
    return "; ".join(
        f"{COLUMNS[comparison.column].title} of {loss} was not reached or not measured "
        f"in {count} of {len(pairs)} seeds"
        for place, loss in enumerate(comparison.losses)
        if (count := sum(pair[place] is None for pair in pairs))
    )


def _means(
    rows: Mapping[int, Record], seeds: Sequence[int], columns: tuple[str, str]
) -> tuple[float, float] | None:
    values = [[known(rows[seed].get(column)) for seed in seeds] for column in columns]
    x, y = ([value for value in of_one if value is not None] for of_one in values)
    if not seeds or len(x) < len(seeds) or len(y) < len(seeds):
        return None
    return sum(x) / len(x), sum(y) / len(y)
