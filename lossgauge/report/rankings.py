"""Losses from best to worst in one number, and which of them seeds can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lossgauge.claims.evidence import Interval, paired_difference
from lossgauge.report.catalogue import METRICS, shown, shown_half_width
from lossgauge.report.contents import losses_of
from lossgauge.report.palette import display_name
from lossgauge.report.tables import by_seed, measured
from lossgauge.types import Results


class Ranking(NamedTuple):
    column: str
    losses: tuple[str, ...]
    """Best mean first; losses that do not know the number are not in it."""
    over_seeds: dict[str, Interval]
    ties: tuple[str, ...]
    """Losses that paired seeds cannot tell from the first."""

    @property
    def seed_count(self) -> int:
        return max(over.size for over in self.over_seeds.values())

    def value(self, loss: str) -> str:
        """`91.2 % ± 0.4`."""
        unit, over = METRICS[self.column].unit, self.over_seeds[loss]
        text = shown(over.mean, unit)
        if over.half_width is None:
            return text
        return f"{text} ± {shown_half_width(over.half_width, over.mean, unit)}"

    def listed(self) -> str:
        """Every loss with its value."""
        return ", ".join(f"{display_name(loss)} {self.value(loss)}" for loss in self.losses)

    def leading(self) -> str:
        """Who leads, as far as the seeds can tell."""
        group = [self.losses[0], *self.ties]
        if len(group) == 1:
            return display_name(group[0])
        if self.seed_count == 1:
            return f"{display_name(group[0])} (one seed)"
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


def ranking(results: Results, dataset: str, column: str, *, highest_first: bool) -> Ranking | None:
    """Losses of a dataset by the mean of a summary column; None where none knows it."""
    found = {
        loss: over
        for loss in losses_of(results)
        if (over := measured(results, dataset, loss, column)) is not None
    }
    if not found:
        return None
    sign = -1 if highest_first else 1
    first, *rest = sorted(found, key=lambda loss: sign * found[loss].mean)
    gaps = {loss: difference(results, dataset, first, loss, column) for loss in rest}
    ties = tuple(loss for loss, gap in gaps.items() if gap is None or not gap.excludes_zero)
    return Ranking(column, (first, *rest), found, ties)


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
    half = "" if over.half_width is None else f" ± {100 * over.half_width:.1f}"
    return f"{100 * over.mean:+.1f}{half}".replace("-", "−")
