"""Whether the seeds of a study are for or against contrasts and orderings, corrected for all contrasts of one quantity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from lossgauge.claims.statements import Contrast, Ordering
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView
from lossgauge.stats.decisions import LEVEL, Decision, decide
from lossgauge.stats.intervals import Correlation, Interval, known, rank_correlation
from lossgauge.stats.number_format import counted
from lossgauge.stats.planning import queries_needed, seeds_needed
from lossgauge.types import Record

Side = Literal["for", "against", "equivalent", "open"]
Runs = Mapping[str, Mapping[int, Record]]
"""Name of a loss → seed → summary row."""


class ContrastResult(NamedTuple):
    """One contrast, and on which side of it the seeds are, after the correction."""

    contrast: Contrast
    side: Side
    difference: Interval | None
    """Left − right, for both directions of a claim; None if it cannot be computed."""
    reason: str
    """Why it is open; empty otherwise."""
    decision: Decision
    """The corrected p-values. Its own direction may be that of right − left."""

    @property
    def seeds_needed(self) -> int | None:
        """Seeds that would decide an open contrast; see `stats.planning.seeds_needed`."""
        return self._needed(seeds_needed)

    @property
    def queries_needed(self) -> int | None:
        """Queries that would decide an open contrast with the same seeds."""
        return self._needed(queries_needed)

    def _needed(self, count: Callable[..., int | None]) -> int | None:
        if self.side != "open" or self.difference is None:
            return None
        margin = COLUMNS[self.contrast.column].margin
        return count(self.difference, margin, family=self.decision.family)


class OrderingResult(NamedTuple):
    """One ordering, and on which side of it the losses are."""

    ordering: Ordering
    side: Side
    correlation: Correlation | None
    losses: tuple[str, ...]
    """Those that are points of it."""
    reason: str = ""


def compare(
    contrasts: Iterable[Contrast], runs: Runs, view: StudyView
) -> dict[Contrast, ContrastResult]:
    """The result of each contrast whose losses all have runs.

    Holm's correction is over all contrasts of one quantity that are given; one that is given twice, or with its groups
    exchanged, counts once.
    """
    estimates = {
        contrast: _estimate(contrast, runs, view)
        for contrast in contrasts
        if all(loss in runs for loss in contrast.losses)
    }
    once = {contrast.comparison: contrast for contrast in estimates}
    decisions: dict[object, Decision] = {}
    for column in dict.fromkeys(contrast.column for contrast in estimates):
        family = [key for key, contrast in once.items() if contrast.column == column]
        differences = [estimates[once[key]][0] for key in family]
        decisions |= zip(family, decide(differences, COLUMNS[column].margin), strict=True)
    return {
        contrast: _result(contrast, difference, gap, decisions[contrast.comparison])
        for contrast, (difference, gap) in estimates.items()
    }


def _result(
    contrast: Contrast, difference: Interval | None, gap: str, decision: Decision
) -> ContrastResult:
    side: Side = "open"
    if decision.side == "equivalent":
        side = "equivalent"
    elif decision.side != "open" and difference is not None:
        as_claimed = (difference.mean > 0) == (contrast.direction == "higher")
        side = "for" if as_claimed else "against"
    return ContrastResult(contrast, side, difference, gap or decision.reason, decision)


def _estimate(contrast: Contrast, runs: Runs, view: StudyView) -> tuple[Interval | None, str]:
    """The difference over the seeds that all losses of a contrast have; or why it cannot be computed.

    It is not computed if the quantity is missing in a shared seed: "not reached" means late, and without that seed the
    fast seeds would decide.
    """
    shared = set.intersection(*(set(runs[loss]) for loss in contrast.losses))
    if not shared:
        return None, f"{' and '.join(contrast.losses)} share no seed"
    if gaps := _gaps(contrast, runs, shared):
        return None, gaps
    left, right = ([runs[loss] for loss in group] for group in (contrast.left, contrast.right))
    return view.contrast(left, right, contrast.column), ""


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


def _gaps(contrast: Contrast, runs: Runs, shared: set[int]) -> str:
    """The number of seeds in which each loss does not have the quantity; empty if there are none."""
    missing = {
        loss: sum(known(runs[loss][seed].get(contrast.column)) is None for seed in shared)
        for loss in contrast.losses
    }
    return "; ".join(
        f"{COLUMNS[contrast.column].title} of {loss} was not reached or not measured "
        f"in {count} of {len(shared)} seeds"
        for loss, count in missing.items()
        if count
    )


def _means(
    rows: Mapping[int, Record], seeds: Sequence[int], columns: tuple[str, str]
) -> tuple[float, float] | None:
    values = [[known(rows[seed].get(column)) for seed in seeds] for column in columns]
    x, y = ([value for value in of_one if value is not None] for of_one in values)
    if not seeds or len(x) < len(seeds) or len(y) < len(seeds):
        return None
    return sum(x) / len(x), sum(y) / len(y)
