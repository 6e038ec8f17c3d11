"""How a verdict changes with the settings: tuned, all losses at one multiple, and every pair of settings.

The two losses of a pair take any of their settings independently: k settings each give k² combinations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lossgauge.claims.contrasts import ContrastResult, Runs, Side, compare
from lossgauge.claims.statements import CLAIMS, Claim, Contrast
from lossgauge.claims.variants import LossVariant, LossVariants, loss_variants
from lossgauge.claims.verdicts import Verdict, verdicts_at, wrong_protocol
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval


class Shares(NamedTuple):
    """How many combinations of settings are on which side."""

    supporting: int
    contradicting: int
    undecided: int
    """No clear difference, not measured, only one seed, or all runs of one side failed."""
    equivalent: int = 0
    """The interval lies inside the margin of the quantity."""

    @property
    def total(self) -> int:
        return sum(self)

    def share(self, count: int) -> float:
        """`count` divided by the total, in [0, 1]; 0 if the total is 0."""
        return count / self.total if self.total else 0.0


class Flip(NamedTuple):
    """A pair of settings where a pair of losses is on the other side."""

    contrast: Contrast
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
    """Over pairs of losses and pairs of their settings, without a correction; of an ordering, over default, multiples
    and tuned."""
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
    claims = [claim for claim in claims if not wrong_protocol(claim, of)]
    default = verdicts_at(view, claims, of.default(), of)
    as_tuned = of._replace(absent=of.absent_tuned())
    tuned = verdicts_at(view, claims, of.tuned(), as_tuned) if of.tuned() else None
    at_factors = {
        factor: verdicts_at(
            view, claims, of.at_factor(factor), of._replace(absent=of.absent_at(factor))
        )
        for factor in of.factors()
    }
    return [
        _movement(
            view,
            of,
            default[place],
            tuned[place] if tuned else None,
            tuple((factor, verdicts[place]) for factor, verdicts in at_factors.items()),
        )
        for place in range(len(claims))
    ]


def _movement(
    view: StudyView,
    of: LossVariants,
    default: Verdict,
    tuned: Verdict | None,
    at_factors: tuple[tuple[float, Verdict], ...],
) -> Movement:
    claim, runs = default.claim, of.default()
    sides: list[Side] = []
    flips: list[Flip] = []
    for pair in dict.fromkeys(pair for part in claim.contrasts for pair in part.pairs):
        # parts of one claim may be on different sides by default: each flips against its own
        own = _alone(view, pair, runs)
        other: Side = "for" if own is not None and own.side == "against" else "against"
        for left, right in _settings(pair, of):
            result = _alone(view, pair, {pair.left[0]: left.by_seed, pair.right[0]: right.by_seed})
            if result is None:
                continue
            sides.append(result.side)
            if result.side == other and result.difference is not None:
                flips.append(Flip(pair, left.title, right.title, other, result.difference))
    if claim.orderings:
        at_all = [default, *(v for _, v in at_factors), *([tuned] if tuned else [])]
        sides += [result.side for one in at_all for result in one.orderings]
    counts = (sides.count(side) for side in _COUNTED)
    flips.sort(key=_clearest)
    return Movement(claim, of.dataset, default, tuned, at_factors, Shares(*counts), tuple(flips))


_COUNTED: tuple[Side, ...] = ("for", "against", "open", "equivalent")
"""The order of `Shares`."""


def _alone(view: StudyView, pair: Contrast, runs: Runs) -> ContrastResult | None:
    """The result of one pair without a correction; None if a loss has no runs."""
    return compare([pair], runs, view).get(pair)


def _settings(pair: Contrast, of: LossVariants) -> Iterator[tuple[LossVariant, LossVariant]]:
    for left in _distinct(of.by_loss.get(pair.left[0], ())):
        for right in _distinct(of.by_loss.get(pair.right[0], ())):
            yield left, right


def _distinct(variants: Sequence[LossVariant]) -> list[LossVariant]:
    """Without those that are the same runs again: a search may choose the settings of the plan."""
    by_runs: dict[object, LossVariant] = {}
    for variant in variants:
        by_runs.setdefault(variant.runs or variant.title, variant)
    return list(by_runs.values())


def _clearest(flip: Flip) -> tuple[float, str, str, str]:
    half_width = flip.difference.half_width or 0.0
    clear = abs(flip.difference.mean) / half_width if half_width else float("inf")
    return -clear, flip.contrast.column, flip.left, flip.right
