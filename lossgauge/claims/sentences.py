"""Verdicts and movements as text, with the evidence that a reader can check."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lossgauge.claims.contrasts import ContrastResult, OrderingResult
from lossgauge.claims.sensitivity import Flip, Shares
from lossgauge.claims.verdicts import Verdict
from lossgauge.results.columns import COLUMNS
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, in_p, rounded, short


def evidence(verdict: Verdict) -> list[str]:
    """One line for each contrast, then its members, and for each ordering, with its numbers and its side."""
    return [*map(_compared, verdict.results), *map(_ordered, verdict.orderings)]


def family(verdict: Verdict) -> str:
    """What the correction is for: the size of each family; empty without a comparison."""
    sizes = {
        COLUMNS[result.contrast.column].title: result.decision.family
        for result in verdict.results
        if result.decision.family
    }
    if not sizes:
        return ""
    counts = ", ".join(f"{size} in {title}" for title, size in sizes.items())
    return f"Corrected (Holm) for all comparisons that the claims make on this dataset: {counts}."


def turning(flips: Sequence[Flip], *, at_most: int = 3) -> str:
    """Where it flips: `against the claim in intra with triplet(margin=0.05) and info_nce`, and how many more."""
    parts = [
        f"{flip.side} the claim in {COLUMNS[flip.contrast.column].title} with {flip.left} and {flip.right}"
        for flip in flips[:at_most]
    ]
    more = len(flips) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


def summary(verdict: Verdict) -> str:
    """The effect of a claim with one part: `+0.103 ± 0.014`; of several parts, how many pairs are on which side."""
    if verdict.status == "not tested":
        return ""
    if verdict.orderings and not verdict.parts:
        correlation = verdict.orderings[0].correlation
        return "" if correlation is None else rounded(correlation.value, 2, signed=True)
    if verdict.effect is not None:
        return amount(verdict.parts[0].contrast.column, verdict.effect)
    return verdict.counts


def shares(of: Shares) -> str:
    """`62 % for, 10 % against, 28 % open, of 64`."""
    parts = (
        (of.supporting, "for"),
        (of.contradicting, "against"),
        (of.equivalent, "equivalent"),
        (of.undecided, "open"),
    )
    words = [f"{100 * of.share(count):.0f} % {side}" for count, side in parts if count]
    return f"{', '.join(words)}, of {of.total:,}" if words else "none"


def _compared(result: ContrastResult) -> str:
    contrast, difference = result.contrast, result.difference
    side = result.reason if result.side == "open" else result.side
    claimed = "above 0" if contrast.direction == "higher" else "below 0"
    line = f"{contrast.words}, claimed {claimed}: "
    if difference is None:
        return f"{line}{side}"
    line += amount(contrast.column, difference)
    if difference.p_value is not None:
        line += f", {paired(difference)}, {in_p('p', difference.p_value)}"
        corrected = result.decision.p_value
        if corrected is not None and corrected != difference.p_value:
            line += f", {in_p('corrected', corrected)}"
    if result.side == "equivalent":
        side = f"equivalent, inside {margin(contrast.column)}"
    return f"{line}: {side}"


def paired(of: Interval) -> str:
    """What an interval is over: `3 seeds and 360 queries, both paired`; with `approximate` where it is."""
    counts = f"{counted(of.size, 'seed')}"
    counts += f" and {counted(of.queries, 'query')}, both paired" if of.queries else ", paired"
    return f"{counts}{', approximate' if of.approximate else ''}"


def margin(column: str) -> str:
    """`± 0.5 points`; empty for a quantity without a margin."""
    of = COLUMNS[column].margin
    if of is None:
        return ""
    scale, word = _SCALES.get(COLUMNS[column].unit, (1, ""))
    return f"± {scale * of:g}{word}"


def _ordered(result: OrderingResult) -> str:
    correlation = result.correlation
    side = result.reason if result.side == "open" else result.side
    line = f"{result.ordering.words}, claimed above 0: "
    if correlation is None:
        return f"{line}{side}"
    value = rounded(correlation.value, 2, signed=True)
    points = f"n = {correlation.size} losses ({', '.join(result.losses)})"
    return f"{line}{value}, {points}, {in_p('p', correlation.p_value)}: {side}"


LEAST_HALF_WIDTH = 1e-3
"""Below it, numbers are written with powers of ten."""

_SCALES = {"percent": (100, " points"), "epochs": (1, " epochs")}


def amount(column: str, of: Interval) -> str:
    """A difference in its unit, with its interval: `+10.3 ± 1.4 points`."""
    scale, word = _SCALES.get(COLUMNS[column].unit, (1, ""))
    mean = scale * of.mean
    if of.half_width is None or scale * of.half_width < LEAST_HALF_WIDTH:
        half = "" if of.half_width is None else f" ± {short(scale * of.half_width, 2)}"
        return f"{'+' if mean > 0 else ''}{short(mean, 3)}{half}{word}"
    # both with the same decimals: two digits of the half width
    digits = max(0, 1 - math.floor(math.log10(scale * of.half_width)))
    return f"{rounded(mean, digits, signed=True)} ± {rounded(scale * of.half_width, digits)}{word}"
