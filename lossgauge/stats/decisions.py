"""What intervals decide: higher, lower, equivalent or open, corrected over a whole family of comparisons.

Holm 1979 for the correction; Schuirmann 1987 for equivalence, as two one-sided tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from scipy import special

from lossgauge.stats.intervals import Interval, holm
from lossgauge.stats.number_format import counted, in_p

LEVEL = 0.05
"""Of every corrected p-value; intervals are 95 % accordingly."""

Side = Literal["higher", "lower", "equivalent", "open"]


_TURNED: dict[Side, Side] = {"higher": "lower", "lower": "higher"}


class Decision(NamedTuple):
    """What one interval of a family decides."""

    side: Side
    reason: str = ""
    """Why it is open; empty otherwise."""
    p_value: float | None = None
    """For a difference of 0, corrected over the family; None without an interval."""
    equivalence_p_value: float | None = None
    """For a difference outside the margin, corrected over the family; None without an interval or a margin."""
    family: int = 0
    """How many comparisons the correction is for."""

    @property
    def differs(self) -> bool:
        return self.side in ("higher", "lower")

    @property
    def turned(self) -> Decision:
        """The decision for right − left."""
        return self._replace(side=_TURNED.get(self.side, self.side))


ONE_SEED = "one seed: its interval is for these trained heads only"


def decide(
    family: Sequence[Interval | None], margin: float | None, *, of_heads: bool = False
) -> list[Decision]:
    """A decision for each difference of a family, all in one quantity.

    `equivalent`: the interval lies inside ± `margin`, also after Holm's correction over the family. Else `higher` or
    `lower`: it excludes 0 after the correction. Else `open`. So the chance of any false `higher` or `lower` in the
    family is at most 5 %, and the chance of any false `equivalent` too. Comparisons without an interval are open, and
    do not count in the correction. One seed leaves a comparison of losses open; `of_heads` decides about the trained
    heads themselves, for which an interval over new queries is enough.
    """
    used = [one if one and (one.size > 1 or of_heads) else None for one in family]
    p_values = _corrected([one.p_value if one else None for one in used])
    outside = _corrected([_outside_p_value(one, margin) for one in used])
    tested = sum(p is not None for p in p_values)
    return [
        _decision(one, p, p_outside, tested)
        for one, p, p_outside in zip(family, p_values, outside, strict=True)
    ]


def _decision(
    of: Interval | None,
    p_value: float | None,
    p_outside: float | None,
    tested: int,
) -> Decision:
    if of is None:
        return Decision("open", "not measured")
    if p_value is None:
        seed = "one seed shows no spread" if of.half_width is None else ONE_SEED
        return Decision("open", seed if of.size == 1 and not of.missing else of.why_none)
    decided = Decision("open", "", p_value, p_outside, tested)
    if p_outside is not None and p_outside < LEVEL:
        return decided._replace(side="equivalent")
    if p_value < LEVEL:
        return decided._replace(side="higher" if of.mean > 0 else "lower")
    reason = "no clear difference"
    if of.p_value is not None and of.p_value < LEVEL:
        reason = (
            f"clear alone ({in_p('p', of.p_value)}), but not after the correction for "
            f"{counted(tested, 'comparison')}"
        )
    return decided._replace(reason=reason)


def _outside_p_value(of: Interval | None, margin: float | None) -> float | None:
    """Below 0.05 if and only if the 95 % interval lies inside ± `margin`."""
    if of is None or margin is None or not of.half_width:
        return None
    degrees, error = of.degrees_of_freedom, of.standard_error
    if degrees is None or error is None:
        return None
    return min(1.0, 2 * float(special.stdtr(degrees, (abs(of.mean) - margin) / error)))


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]
