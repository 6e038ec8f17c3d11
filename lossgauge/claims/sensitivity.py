"""How a claim moves with the settings: tuned, all losses at one multiple, and every pair of settings.

A comparison's two losses stand at any of their settings independently: k settings each give k² combinations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lossgauge.claims.evidence import Interval
from lossgauge.claims.standings import Standing, Standings, standings
from lossgauge.claims.statements import CLAIMS, Claim, Comparison
from lossgauge.claims.verdicts import Verdict, verdict, wrong_protocol
from lossgauge.claims.weighing import Side, weigh
from lossgauge.types import Results


class Shares(NamedTuple):
    """How many combinations of settings are on which side."""

    supporting: int
    contradicting: int
    undecided: int
    """Not told apart, not measured, or one seed."""

    @property
    def total(self) -> int:
        return sum(self)

    def share(self, count: int) -> float:
        """`count` over all, in [0, 1]; 0 where there is none."""
        return count / self.total if self.total else 0.0


class Turn(NamedTuple):
    """A pair of settings where a comparison is on the other side."""

    comparison: Comparison
    left: str
    """Title of the loss at its setting."""
    right: str
    side: Side
    difference: Interval


class Movement(NamedTuple):
    """One claim on one dataset under every setting that there is a run of."""

    claim: Claim
    dataset: str
    default: Verdict
    tuned: Verdict | None
    """None where no loss of the study is tuned."""
    at_factors: tuple[tuple[float, Verdict], ...]
    """All losses at one multiple of their first setting, ascending; empty without such runs."""
    combinations: Shares
    """Over comparisons and pairs of settings; of an ordering, over default, multiples and tuned."""
    turns: tuple[Turn, ...]
    """Where the side is not the default's: against the claim, or for it where the default contradicts it.
    The largest difference, against its interval, first."""


def movements(results: Results, dataset: str, claims: Sequence[Claim] = CLAIMS) -> list[Movement]:
    """A movement a claim that the split allows; none where the study has neither tuned nor varied losses.

    Cost grows as comparisons × settings² × seeds: a tenth of a second for seven losses at ten settings.
    """
    found = standings(results, dataset, [loss for claim in claims for loss in claim.losses])
    if not any(s.kind != "default" for of_loss in found.by_loss.values() for s in of_loss):
        return []
    return [_movement(claim, found) for claim in claims if not wrong_protocol(claim, found)]


def _movement(claim: Claim, of: Standings) -> Movement:
    default = verdict(claim, of.default(), of)
    tuned = verdict(claim, of.tuned(), _absent_as(of, "tuned")) if of.tuned() else None
    at_factors = tuple(
        (factor, verdict(claim, of.at_factor(factor), _absent_as(of, f"at × {factor:g}")))
        for factor in of.factors()
    )
    # a part of one claim may hold by default and another not: each turns against its own
    own = {w.comparison: w.side for w in default.weighed}
    sides: list[Side] = []
    turns: list[Turn] = []
    for comparison, left, right in _pairs(claim, of):
        weighed = weigh(
            comparison, {comparison.left: left.by_seed, comparison.right: right.by_seed}
        )
        sides.append(weighed.side)
        turned: Side = "for" if own.get(comparison) == "against" else "against"
        if weighed.side == turned and weighed.difference is not None:
            turns.append(
                Turn(comparison, left.title, right.title, weighed.side, weighed.difference)
            )
    if claim.orderings:
        at_all = [default, *(v for _, v in at_factors), *([tuned] if tuned else [])]
        sides += [ordered.side for found in at_all for ordered in found.ordered]
    shares = Shares(sides.count("for"), sides.count("against"), sides.count("open"))
    turns.sort(key=_clearest)
    return Movement(claim, of.dataset, default, tuned, at_factors, shares, tuple(turns))


def _pairs(claim: Claim, of: Standings) -> Iterator[tuple[Comparison, Standing, Standing]]:
    for comparison in claim.comparisons:
        for left in of.by_loss.get(comparison.left, ()):
            for right in of.by_loss.get(comparison.right, ()):
                yield comparison, left, right


def _clearest(turn: Turn) -> tuple[float, str, str, str]:
    half_width = turn.difference.half_width or 0.0
    clear = abs(turn.difference.mean) / half_width if half_width else float("inf")
    return -clear, turn.comparison.column, turn.left, turn.right


def _absent_as(of: Standings, kind: str) -> Standings:
    """With a reason for each loss that has no such run."""
    return of._replace(absent={loss: f"{loss} has no run {kind}" for loss in _names(of)})


def _names(of: Standings) -> list[str]:
    return [*of.by_loss, *of.absent]
