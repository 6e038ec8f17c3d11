"""How a verdict changes with the settings: tuned, all losses at one multiple, and every pair of settings.

The two losses of a comparison take any of their settings independently: k settings each give k² combinations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lossgauge.claims.comparisons import Side, compare
from lossgauge.claims.statements import CLAIMS, Claim, Comparison
from lossgauge.claims.variants import LossVariant, LossVariants, loss_variants
from lossgauge.claims.verdicts import Verdict, verdict, wrong_protocol
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval


class Shares(NamedTuple):
    """How many combinations of settings are on which side."""

    supporting: int
    contradicting: int
    undecided: int
    """No clear difference, not measured, only one seed, or all runs of one side failed."""

    @property
    def total(self) -> int:
        return sum(self)

    def share(self, count: int) -> float:
        """`count` divided by the total, in [0, 1]; 0 if the total is 0."""
        return count / self.total if self.total else 0.0


class Flip(NamedTuple):
    """A pair of settings where a comparison is on the other side."""

    comparison: Comparison
    left: str
    """Title of the loss with its settings."""
    right: str
    side: Side
    difference: Interval


class Movement(NamedTuple):
    """One claim on one dataset under every setting that has a run."""

    claim: Claim
    dataset: str
    default: Verdict
    tuned: Verdict | None
    """None where no loss of the study is tuned."""
    at_factors: tuple[tuple[float, Verdict], ...]
    """All losses at one multiple of their first setting, ascending; empty without such runs."""
    combinations: Shares
    """Over comparisons and pairs of settings; of an ordering, over default, multiples and tuned."""
    flips: tuple[Flip, ...]
    """Where the side is not the default's: against the claim, or for it where the default contradicts it.
    The largest difference, against its interval, first."""


def movements(view: StudyView, dataset: str, claims: Sequence[Claim] = CLAIMS) -> list[Movement]:
    """One movement for each claim that the split allows; none if the study has neither tuned nor varied losses.

    Cost grows as comparisons × settings² × seeds: a tenth of a second for seven losses at ten settings.
    """
    of = loss_variants(view, dataset, [loss for claim in claims for loss in claim.losses])
    varied = [v for of_loss in of.by_loss.values() for v in of_loss if v.kind != "default"]
    if not any(variant.by_seed for variant in varied):
        return []
    return [_movement(claim, of) for claim in claims if not wrong_protocol(claim, of)]


def _movement(claim: Claim, of: LossVariants) -> Movement:
    default = verdict(claim, of.default(), of)
    as_tuned = of._replace(absent=of.absent_tuned())
    tuned = verdict(claim, of.tuned(), as_tuned) if of.tuned() else None
    at_factors = tuple(
        (factor, verdict(claim, of.at_factor(factor), of._replace(absent=of.absent_at(factor))))
        for factor in of.factors()
    )
    # parts of one claim may be on different sides by default: each flips against its own
    own = {w.comparison: w.side for w in default.comparisons}
    sides: list[Side] = []
    flips: list[Flip] = []
    for comparison, left, right in _pairs(claim, of):
        result = compare(
            comparison, {comparison.left: left.by_seed, comparison.right: right.by_seed}
        )
        sides.append(result.side)
        other: Side = "for" if own.get(comparison) == "against" else "against"
        if result.side == other and result.difference is not None:
            flips.append(Flip(comparison, left.title, right.title, result.side, result.difference))
    if claim.orderings:
        at_all = [default, *(v for _, v in at_factors), *([tuned] if tuned else [])]
        sides += [result.side for one in at_all for result in one.orderings]
    shares = Shares(sides.count("for"), sides.count("against"), sides.count("open"))
    flips.sort(key=_clearest)
    return Movement(claim, of.dataset, default, tuned, at_factors, shares, tuple(flips))


def _pairs(claim: Claim, of: LossVariants) -> Iterator[tuple[Comparison, LossVariant, LossVariant]]:
    distinct = {loss: _distinct(of.by_loss.get(loss, ())) for loss in claim.losses}
    for comparison in claim.comparisons:
        for left in distinct[comparison.left]:
            for right in distinct[comparison.right]:
                yield comparison, left, right


def _distinct(variants: Sequence[LossVariant]) -> list[LossVariant]:
    """Without those that are the same runs again: a search may choose the settings of the plan."""
    by_runs: dict[object, LossVariant] = {}
    for variant in variants:
        by_runs.setdefault(variant.runs or variant.title, variant)
    return list(by_runs.values())


def _clearest(flip: Flip) -> tuple[float, str, str, str]:
    half_width = flip.difference.half_width or 0.0
    clear = abs(flip.difference.mean) / half_width if half_width else float("inf")
    return -clear, flip.comparison.column, flip.left, flip.right
