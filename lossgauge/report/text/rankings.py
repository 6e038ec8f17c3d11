"""Losses from best to worst in one column, and which of them differ clearly.

A loss may be the first or the last unless another loss is clearly before or behind it: the interval of their difference excludes 0, also after
Holm's correction for all comparisons of that loss in that column. Other pairs are corrected for all pairs.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from lossgauge.report.naming import display_name, listed
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import rounded, shown_half_width, shown_interval


class Ranking(NamedTuple):
    column: str
    losses: tuple[Loss, ...]
    """Best mean first. A loss without the number in every seed is in `partial` instead."""
    intervals: dict[Loss, Interval]
    ties: tuple[Loss, ...]
    """Other losses that may be the first."""
    last_ties: tuple[Loss, ...]
    """Other losses that may be the last."""
    partial: tuple[Loss, ...]
    """Losses with the number in some seeds only, best mean first: they are neither first nor last."""
    seeds: int
    """How many seeds the dataset has."""

    @property
    def seed_count(self) -> int:
        return max(interval.size for interval in self.intervals.values())

    def value(self, loss: Loss) -> str:
        """`91.2 % ± 0.4`."""
        interval = self.intervals[loss]
        text = shown_interval(interval, COLUMNS[self.column].unit)
        if interval.size == self.seeds:
            return text
        return f"{text} ({interval.size} of {self.seeds} seeds)"

    def values(self) -> str:
        """Every loss with its value."""
        losses = (*self.losses, *self.partial)
        return ", ".join(f"{display_name(loss)} {self.value(loss)}" for loss in losses)

    def leading(self, among: Container[Loss] | None = None) -> str:
        """The losses that may be the first; with `among`, only those of them. Empty if there is none."""
        group = [loss for loss in (self.losses[0], *self.ties) if among is None or loss in among]
        if not group:
            return ""
        if len(group) == 1:
            return display_name(group[0])
        if self.seed_count == 1:
            best = self.intervals[group[0]].mean
            equal = [loss for loss in group if self.intervals[loss].mean == best]
            return f"{listed(equal)}{', equal' if len(equal) > 1 else ''} (one seed)"
        if len(group) == len(self.losses):
            return "all losses (no clear difference)"
        if len(group) > 3:
            return f"one of {listed(group)}"
        return f"{listed(group)} (no clear difference)"

    def doubt(self) -> str:
        """What to add to a sentence about the first loss; nothing if it differs clearly from all others."""
        if self.seed_count == 1:
            return " (one seed, so no interval)"
        if not self.ties:
            return ""
        return f", but {self.seed_count} seeds show no clear difference from {listed(self.ties)}"

    def doubt_of_last(self) -> str:
        """What to add to a sentence about the last loss."""
        if not self.last_ties:
            return ""
        return f", without a clear difference from {listed(self.last_ties)}"


def ranking(view: StudyView, dataset: str, column: str, *, highest_first: bool) -> Ranking | None:
    """Losses of a dataset by their mean in a column; None if no loss has a number in every seed."""
    intervals = {
        loss: interval
        for loss in view.losses
        if (interval := view.interval(dataset, loss, column)) is not None
    }
    sign = -1 if highest_first else 1
    ordered = sorted(intervals, key=lambda loss: sign * intervals[loss].mean)
    complete = view.complete(dataset, ordered, column)
    if not complete:
        return None

    def ties(one: Loss, *, highest: bool) -> tuple[Loss, ...]:
        may_be = view.candidates(dataset, column, highest=highest)
        return tuple(loss for loss in complete if loss != one and loss in may_be)

    return Ranking(
        column,
        tuple(complete),
        intervals,
        ties(complete[0], highest=highest_first),
        ties(complete[-1], highest=not highest_first),
        tuple(loss for loss in ordered if loss not in complete),
        len(view.seeds(dataset)),
    )


def clearly_different(view: StudyView, dataset: str, left: Loss, right: Loss, column: str) -> bool:
    """Whether two losses differ in a column, after the correction for all pairs."""
    decision = view.decisions(dataset, column).get((left, right))
    return decision is not None and decision.differs


def in_points(interval: Interval) -> str:
    """A difference of two shares in percentage points: `+1.2 ± 0.4`."""
    half = shown_half_width(interval.half_width or 0.0, interval.mean, "percent")
    mean = rounded(100 * interval.mean, 1, signed=True)
    return mean if interval.half_width is None else f"{mean} ± {half}"
