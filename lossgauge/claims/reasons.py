"""Why a claim has its verdict, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossgauge.claims.contrasts import OrderingResult, Side
from lossgauge.results.columns import COLUMNS
from lossgauge.stats.number_format import counted

if TYPE_CHECKING:
    from lossgauge.claims.verdicts import Part, Verdict

_ALONE: dict[Side, str] = {
    "for": "the difference is clear",
    "against": "the difference is clear, in the other direction",
    "equivalent": "the difference lies inside the margin, and the claim says more",
}
_OF_A_PART: dict[Side, str] = {
    "for": "for it",
    "against": "against it",
    "equivalent": "equivalent, and the claim says more",
}


def reason_of(verdict: Verdict) -> str:
    """What decides a verdict that was tested; of an undecided one, what is open and how many seeds it would take."""
    if not verdict.parts:
        return verdict.orderings[0].reason or _correlation(verdict.orderings[0])
    if verdict.status == "mixed":
        return "; ".join(_sides(verdict))
    if verdict.status == "undecided":
        return _what_is_open(verdict)
    part, *others = verdict.parts
    if others or verdict.orderings:
        return "; ".join([*map(_part, verdict.parts), *map(_ordering, verdict.orderings)])
    if part.contrast.every:
        return f"{verdict.counts}, of {len(verdict.pairs)} pairs"
    return _ALONE[part.side]


def _sides(verdict: Verdict) -> Iterator[str]:
    """The pairs on each side; the contrast, where no pair is on its side."""
    for side in ("for", "against", "equivalent"):
        words = [r.contrast.words for r in verdict.pairs if r.side == side]
        wholes = [r.contrast.words for r in verdict.results if r.side == side]
        if (words or wholes) and (side != "equivalent" or side in verdict.sides):
            yield f"{side} it: {', '.join(words or wholes)}".replace("equivalent it", "equivalent")


def _what_is_open(verdict: Verdict) -> str:
    reasons = [result.reason for result in verdict.open_results]
    reasons += [of.reason for of in verdict.orderings if of.side == "open"]
    words = "; ".join(dict.fromkeys(filter(None, reasons)))
    clear = [COLUMNS[p.contrast.column].title for p in verdict.parts if p.side == "for"]
    if clear:
        words = f"for it in {', '.join(clear)}; open in the rest: {words}"
    if needed := _needed(verdict):
        return f"{words}; {needed} would decide it, if mean and spread stay the same"
    if any(result.decision.p_value is not None for result in verdict.open_results):
        return f"{words}; more seeds alone, or more queries alone, would not decide it"
    return words


def _needed(verdict: Verdict) -> str:
    """`about 7 seeds or 3,000 queries`; empty where no practical number is enough."""
    of = ((verdict.seeds_needed, "seed"), (verdict.queries_needed, "query"))
    words = [counted(_about(number), noun) for number, noun in of if number is not None]
    return f"about {' or '.join(words)}" if words else ""


def _about(number: int) -> int:
    """Rounded up to two digits: the estimate is not better than that."""
    step = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // step) * step


def _part(part: Part) -> str:
    words = _OF_A_PART.get(part.side, "open")
    return f"{COLUMNS[part.contrast.column].title}: {words}"


def _ordering(result: OrderingResult) -> str:
    return f"{result.ordering.words}: {_OF_A_PART.get(result.side, 'open')}"


def _correlation(result: OrderingResult) -> str:
    value = result.correlation.value if result.correlation else 0.0
    words = f"rank correlation {value:+.2f} over {len(result.losses)} losses"
    return words.replace("-", "−")
