"""Verdicts and movements in words: the evidence a reader can check."""

from __future__ import annotations

from collections.abc import Sequence

from lossgauge.claims.comparisons import ComparisonResult, OrderingResult
from lossgauge.claims.sensitivity import Flip, Shares
from lossgauge.claims.statements import QUANTITIES
from lossgauge.claims.verdicts import Verdict
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import in_p, rounded, short

_SHARES = ("recall_at_1", "test_spacing_cv", "term_active_ratio")
_EPOCHS = ("compaction_epochs", "decay_epochs")


def evidence(verdict: Verdict) -> list[str]:
    """A line a comparison or ordering, with its numbers and its side."""
    return [_compared(w) for w in verdict.comparisons] + [_ordered(o) for o in verdict.orderings]


def correction(verdict: Verdict) -> str:
    """How many comparisons keep their side after Holm's correction; empty where none had one, or there is but one."""
    resolved = sum(result.side != "open" for result in verdict.comparisons)
    if not resolved or len(verdict.comparisons) < 2:
        return ""
    kept = verdict.holding_up
    if kept == resolved:
        return f"{'The one told apart holds' if kept == 1 else f'All {kept} told apart hold'} up after Holm's correction."
    return f"{kept} of the {resolved} told apart hold{'s' if kept == 1 else ''} up after Holm's correction."


def turning(flips: Sequence[Flip], *, at_most: int = 3) -> str:
    """Where it flips: `against the claim in intra with triplet(margin=0.05) and info_nce`, and how many more."""
    told = [
        f"{turn.side} the claim in {QUANTITIES[turn.comparison.column]} with {turn.left} and {turn.right}"
        for turn in flips[:at_most]
    ]
    more = len(flips) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def counts_in_words(verdict: Verdict) -> str:
    """`mixed: 3 for, 2 against, 1 open`; the value of a rank correlation; empty where nothing was tested."""
    if verdict.status == "not tested":
        return ""
    if verdict.orderings and not verdict.comparisons:
        found = verdict.orderings[0].correlation
        return "" if found is None else rounded(found.value, 2, signed=True)
    return verdict.counts


def shares(found: Shares) -> str:
    """`62 % for, 10 % against, 28 % open, of 64`."""
    parts = (
        (found.supporting, "for"),
        (found.contradicting, "against"),
        (found.undecided, "open"),
    )
    told = [f"{100 * found.share(count):.0f} % {side}" for count, side in parts if count]
    return f"{', '.join(told)}, of {found.total:,}" if told else "none"


def _compared(result: ComparisonResult) -> str:
    comparison, found = result.comparison, result.difference
    side = result.reason if result.side == "open" else result.side
    claimed = "above 0" if comparison.direction == "higher" else "below 0"
    if found is None:
        return f"{comparison.words}, claimed {claimed}: {side}"
    told = f"{comparison.words}, claimed {claimed}: {_amount(comparison.column, found)}"
    if found.p_value is not None:
        told += f", {found.size} paired seeds, {in_p('p', found.p_value)}"
        if result.corrected_p_value is not None and result.corrected_p_value != found.p_value:
            told += f", {in_p('corrected', result.corrected_p_value)}"
    return f"{told}: {side}"


def _ordered(result: OrderingResult) -> str:
    found = result.correlation
    side = result.reason if result.side == "open" else result.side
    if found is None:
        return f"{result.ordering.words}, claimed above 0: {side}"
    value = rounded(found.value, 2, signed=True)
    points = f"n = {found.size} losses ({', '.join(result.losses)})"
    return (
        f"{result.ordering.words}, claimed above 0: {value}, {points}, "
        f"{in_p('p', found.p_value)}: {side}"
    )


def _amount(column: str, found: Interval) -> str:
    scale, unit = (100, " points") if column in _SHARES else (1, "")
    unit = " epochs" if column in _EPOCHS else unit
    half = "" if found.half_width is None else f" ± {short(scale * found.half_width, 2)}"
    mean = scale * found.mean
    return f"{'+' if mean > 0 else ''}{short(mean, 3)}{half}{unit}"
