"""Verdicts and movements as text, with the evidence that a reader can check."""

from __future__ import annotations

from collections.abc import Sequence

from lossgauge.claims.comparisons import ComparisonResult, OrderingResult
from lossgauge.claims.sensitivity import Flip, Shares
from lossgauge.claims.verdicts import Verdict
from lossgauge.results.columns import COLUMNS
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, in_p, rounded, short


def evidence(verdict: Verdict) -> list[str]:
    """One line for each comparison or ordering, with its numbers and its side."""
    return [*map(_compared, verdict.comparisons), *map(_ordered, verdict.orderings)]


def correction(verdict: Verdict) -> str:
    """How many comparisons keep their side after Holm's correction; empty if none had a side, or if there is only one."""
    resolved = sum(result.side != "open" for result in verdict.comparisons)
    if not resolved or len(verdict.comparisons) < 2:
        return ""
    kept = verdict.holding_up
    if kept == resolved:
        which = (
            "The only clear comparison stays" if kept == 1 else f"All {kept} clear comparisons stay"
        )
        return f"{which} clear after Holm's correction."
    stay = "stays" if kept == 1 else "stay"
    return (
        f"{kept} of {counted(resolved, 'clear comparison')} {stay} clear after Holm's correction."
    )


def turning(flips: Sequence[Flip], *, at_most: int = 3) -> str:
    """Where it flips: `against the claim in intra with triplet(margin=0.05) and info_nce`, and how many more."""
    parts = [
        f"{flip.side} the claim in {COLUMNS[flip.comparison.column].title} with {flip.left} and {flip.right}"
        for flip in flips[:at_most]
    ]
    more = len(flips) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


def summary(verdict: Verdict) -> str:
    """`mixed: 3 for, 2 against, 1 open`; the value of a rank correlation; empty where nothing was tested."""
    if verdict.status == "not tested":
        return ""
    if verdict.orderings and not verdict.comparisons:
        correlation = verdict.orderings[0].correlation
        return "" if correlation is None else rounded(correlation.value, 2, signed=True)
    return verdict.counts


def shares(of: Shares) -> str:
    """`62 % for, 10 % against, 28 % open, of 64`."""
    parts = ((of.supporting, "for"), (of.contradicting, "against"), (of.undecided, "open"))
    words = [f"{100 * of.share(count):.0f} % {side}" for count, side in parts if count]
    return f"{', '.join(words)}, of {of.total:,}" if words else "none"


def _compared(result: ComparisonResult) -> str:
    comparison, difference = result.comparison, result.difference
    side = result.reason if result.side == "open" else result.side
    claimed = "above 0" if comparison.direction == "higher" else "below 0"
    line = f"{comparison.words}, claimed {claimed}: "
    if difference is None:
        return f"{line}{side}"
    line += _amount(comparison.column, difference)
    if difference.p_value is not None:
        line += f", {difference.size} paired seeds, {in_p('p', difference.p_value)}"
        if result.corrected_p_value is not None and result.corrected_p_value != difference.p_value:
            line += f", {in_p('corrected', result.corrected_p_value)}"
    return f"{line}: {side}"


def _ordered(result: OrderingResult) -> str:
    correlation = result.correlation
    side = result.reason if result.side == "open" else result.side
    line = f"{result.ordering.words}, claimed above 0: "
    if correlation is None:
        return f"{line}{side}"
    value = rounded(correlation.value, 2, signed=True)
    points = f"n = {correlation.size} losses ({', '.join(result.losses)})"
    return f"{line}{value}, {points}, {in_p('p', correlation.p_value)}: {side}"


def _amount(column: str, of: Interval) -> str:
    unit = COLUMNS[column].unit
    scale, word = {"percent": (100, " points"), "epochs": (1, " epochs")}.get(unit, (1, ""))
    half = "" if of.half_width is None else f" ± {short(scale * of.half_width, 2)}"
    mean = scale * of.mean
    return f"{'+' if mean > 0 else ''}{short(mean, 3)}{half}{word}"
