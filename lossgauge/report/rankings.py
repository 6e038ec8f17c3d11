"""Losses from best to worst in one number, and which of them seeds can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lossgauge.report.contents import losses_of, seeds_of
from lossgauge.report.naming import display_name
from lossgauge.report.tables import by_seed, complete, measured
from lossgauge.results.columns import COLUMNS
from lossgauge.stats.intervals import Interval, paired_difference
from lossgauge.stats.number_format import rounded, shown_half_width, shown_interval
from lossgauge.types import Results


class Ranking(NamedTuple):
    column: str
    losses: tuple[str, ...]
    """Best mean first; losses that do not know the number in every seed are not in it."""
    over_seeds: dict[str, Interval]
    ties: tuple[str, ...]
    """Losses that paired seeds cannot tell from the first."""
    last_ties: tuple[str, ...]
    """Losses that paired seeds cannot tell from the last."""
    partial: tuple[str, ...]
    """Losses that know the number in some seeds only, best mean first: they neither lead nor are last."""
    seeds: int
    """How many seeds the dataset has."""

    @property
    def seed_count(self) -> int:
        return max(over.size for over in self.over_seeds.values())

    def value(self, loss: str) -> str:
        """`91.2 % ± 0.4`."""
        over = self.over_seeds[loss]
        text = shown_interval(over, COLUMNS[self.column].unit)
        return f"{text} ({over.size} of {self.seeds} seeds)" if over.size < self.seeds else text

    def listed(self) -> str:
        """Every loss with its value."""
        losses = (*self.losses, *self.partial)
        return ", ".join(f"{display_name(loss)} {self.value(loss)}" for loss in losses)

    def leading(self) -> str:
        """Who leads, as far as the seeds can tell."""
        group = [self.losses[0], *self.ties]
        if len(group) == 1:
            return display_name(group[0])
        if self.seed_count == 1:
            best = self.over_seeds[group[0]].mean
            equal = [loss for loss in group if self.over_seeds[loss].mean == best]
            return f"{in_words(equal)}{', equal' if len(equal) > 1 else ''} (one seed)"
        if len(group) == len(self.losses):
            return "too close to call"
        return (
            f"{in_words(group)}, not told apart" if len(group) < 4 else f"one of {in_words(group)}"
        )

    def doubt(self) -> str:
        """What is to be said behind "the first is the first": nothing where it is resolved."""
        if self.seed_count == 1:
            return " (one seed, so no interval)"
        if not self.ties:
            return ""
        return f", though {self.seed_count} seeds cannot tell it from {in_words(self.ties)}"

    def doubt_of_last(self) -> str:
        """What is to be said behind "the last is the last"."""
        if not self.last_ties:
            return ""
        return f", not told apart from {in_words(self.last_ties)}"


def ranking(results: Results, dataset: str, column: str, *, highest_first: bool) -> Ranking | None:
    """Losses of a dataset by the mean of a summary column; None where none knows it in every seed."""
    found = {
        loss: over
        for loss in losses_of(results)
        if (over := measured(results, dataset, loss, column)) is not None
    }
    sign = -1 if highest_first else 1
    ordered = sorted(found, key=lambda loss: sign * found[loss].mean)
    whole = complete(results, dataset, ordered, column)
    if not whole:
        return None

    def ties(one: str) -> tuple[str, ...]:
        others = [loss for loss in whole if loss != one]
        return tuple(o for o in others if not told_apart(results, dataset, one, o, column))

    partial = tuple(loss for loss in ordered if loss not in whole)
    seeds = len(seeds_of(results, dataset))
    return Ranking(column, tuple(whole), found, ties(whole[0]), ties(whole[-1]), partial, seeds)


def told_apart(results: Results, dataset: str, left: str, right: str, column: str) -> bool:
    """Whether paired seeds can tell two losses from each other."""
    gap = difference(results, dataset, left, right, column)
    return gap is not None and gap.excludes_zero


def difference(
    results: Results, dataset: str, left: str, right: str, column: str
) -> Interval | None:
    """`left` − `right` in a summary column, paired by seed; None where they share no seed."""
    rows = results.summaries
    return paired_difference(
        by_seed(rows, dataset, left, column), by_seed(rows, dataset, right, column)
    )


def in_words(losses: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = (display_name(loss) for loss in losses)
    return ", ".join(most) + " and " + last if most else last


def in_points(over: Interval) -> str:
    """A difference of two shares in percentage points: `+1.2 ± 0.4`."""
    half = shown_half_width(over.half_width or 0.0, over.mean, "percent")
    mean = rounded(100 * over.mean, 1, signed=True)
    return mean if over.half_width is None else f"{mean} ± {half}"
