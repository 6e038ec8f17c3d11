"""Verdicts and movements in words: the evidence a reader can check."""

from __future__ import annotations

from collections.abc import Sequence

from lossgauge.claims.evidence import Interval
from lossgauge.claims.numbers import in_p, rounded, short
from lossgauge.claims.sensitivity import Shares, Turn
from lossgauge.claims.statements import QUANTITIES
from lossgauge.claims.verdicts import Verdict
from lossgauge.claims.weighing import Ordered, Weighed

_SHARES = ("recall_at_1", "test_spacing_cv", "term_active_ratio")
_EPOCHS = ("compaction_epochs", "decay_epochs")


def evidence(verdict: Verdict) -> list[str]:
    """A line a comparison or ordering, with its numbers and its side."""
    return [_weighed(w) for w in verdict.weighed] + [_ordered(o) for o in verdict.ordered]


def correction(verdict: Verdict) -> str:
    """How many comparisons keep their side after Holm's correction; empty where none had one, or there is but one."""
    resolved = sum(weighed.side != "open" for weighed in verdict.weighed)
    if not resolved or len(verdict.weighed) < 2:
        return ""
    kept = verdict.holding_up
    if kept == resolved:
        return f"{'The one told apart holds' if kept == 1 else f'All {kept} told apart hold'} up after Holm's correction."
    return f"{kept} of the {resolved} told apart hold{'s' if kept == 1 else ''} up after Holm's correction."


def turning(turns: Sequence[Turn], *, at_most: int = 3) -> str:
    """Where it turns: `against the claim in intra with triplet(margin=0.05) and info_nce`, and how many more."""
    told = [
        f"{turn.side} the claim in {QUANTITIES[turn.comparison.column]} with {turn.left} and {turn.right}"
        for turn in turns[:at_most]
    ]
    more = len(turns) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def tally(verdict: Verdict) -> str:
    """`mixed: 3 for, 2 against, 1 open`; the value of a rank correlation; empty where nothing was tested."""
    if verdict.status == "not tested":
        return ""
    if verdict.ordered and not verdict.weighed:
        found = verdict.ordered[0].correlation
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


def _weighed(weighed: Weighed) -> str:
    comparison, found = weighed.comparison, weighed.difference
    side = weighed.reason if weighed.side == "open" else weighed.side
    claimed = "above 0" if comparison.direction == "higher" else "below 0"
    if found is None:
        return f"{comparison.words}, claimed {claimed}: {side}"
    told = f"{comparison.words}, claimed {claimed}: {_amount(comparison.column, found)}"
    if found.p_value is not None:
        told += f", {found.size} paired seeds, {in_p('p', found.p_value)}"
        if weighed.corrected_p_value is not None and weighed.corrected_p_value != found.p_value:
            told += f", {in_p('corrected', weighed.corrected_p_value)}"
    return f"{told}: {side}"


def _ordered(ordered: Ordered) -> str:
    found = ordered.correlation
    side = ordered.reason if ordered.side == "open" else ordered.side
    if found is None:
        return f"{ordered.ordering.words}, claimed above 0: {side}"
    value = rounded(found.value, 2, signed=True)
    points = f"n = {found.size} losses ({', '.join(ordered.losses)})"
    return (
        f"{ordered.ordering.words}, claimed above 0: {value}, {points}, "
        f"{in_p('p', found.p_value)}: {side}"
    )


def _amount(column: str, found: Interval) -> str:
    scale, unit = (100, " points") if column in _SHARES else (1, "")
    unit = " epochs" if column in _EPOCHS else unit
    half = "" if found.half_width is None else f" ± {short(scale * found.half_width, 2)}"
    mean = scale * found.mean
    return f"{'+' if mean > 0 else ''}{short(mean, 3)}{half}{unit}"
