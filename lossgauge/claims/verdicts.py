"""The verdict of a study on a claim: supported, contradicted, mixed, undecided or not tested, with the reason.

All contrasts of one quantity that the claims make on one dataset are one family: Holm's correction is over all of them,
and every verdict is made from corrected results only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from lossgauge.claims.contrasts import (
    ContrastResult,
    OrderingResult,
    Runs,
    Side,
    compare,
    order,
)
from lossgauge.claims.reasons import reason_of
from lossgauge.claims.statements import CLAIMS, Claim, Contrast
from lossgauge.claims.variants import LossVariants, loss_variants
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval

Status = Literal["supported", "contradicted", "mixed", "undecided", "not tested"]
STATUSES: tuple[Status, ...] = get_args(Status)

NO_PROTOCOL = "the results do not say whether the test classes are unseen in training"


class Part(NamedTuple):
    """One part of a claim: a contrast of two groups, and each loss of one group against each of the other."""

    contrast: Contrast
    whole: ContrastResult | None
    """None if one of its losses has no runs."""
    members: tuple[ContrastResult, ...]
    """Those whose two losses have runs; empty for a contrast of two losses."""

    @property
    def results(self) -> tuple[ContrastResult, ...]:
        return (*((self.whole,) if self.whole else ()), *self.members)

    @property
    def decisive(self) -> tuple[ContrastResult, ...]:
        """The results that decide the side."""
        if self.contrast.every and self.contrast.members:
            return self.members
        return () if self.whole is None else (self.whole,)

    @property
    def side(self) -> Side:
        """That of the contrast. If the claim is about every pair: `for` only with all, and otherwise decided by any."""
        sides = [result.side for result in self.decisive]
        if set(sides) == {"for"}:
            return "for"
        return next((side for side in _REFUTES if side in sides), "open")


_REFUTES: tuple[Side, ...] = ("against", "equivalent")


class Verdict(NamedTuple):
    claim: Claim
    dataset: str
    status: Status
    reason: str
    """In words: what decides it, what it would take, or why it was not tested."""
    parts: tuple[Part, ...] = ()
    orderings: tuple[OrderingResult, ...] = ()

    @property
    def results(self) -> list[ContrastResult]:
        """Each contrast before its members."""
        return [result for part in self.parts for result in part.results]

    @property
    def pairs(self) -> list[ContrastResult]:
        """Results of single losses against single losses."""
        return [result for result in self.results if len(result.contrast.losses) == 2]

    @property
    def sides(self) -> list[Side]:
        """Of each part and each ordering."""
        return [*(part.side for part in self.parts), *(of.side for of in self.orderings)]

    @property
    def effect(self) -> Interval | None:
        """The difference of a claim with one contrast; None for other claims."""
        if len(self.parts) != 1 or self.orderings or self.parts[0].whole is None:
            return None
        return self.parts[0].whole.difference

    @property
    def counts(self) -> str:
        """Of the pairs of losses: `3 for, 2 against, 1 open`."""
        sides = [result.side for result in self.pairs]
        counts = [(side, sides.count(side)) for side in get_args(Side)]
        return ", ".join(f"{count} {side}" for side, count in counts if count)

    @property
    def open_results(self) -> list[ContrastResult]:
        """The open results that leave a part open."""
        open_parts = [part for part in self.parts if part.side == "open"]
        return [r for part in open_parts for r in part.decisive if r.side == "open"]

    @property
    def seeds_needed(self) -> int | None:
        """Seeds at which every open part would be decided; None if one would need too many, or if none is open."""
        return _most([result.seeds_needed for result in self.open_results])

    @property
    def queries_needed(self) -> int | None:
        """Queries at which every open part would be decided with the same seeds; None as `seeds_needed`."""
        return _most([result.queries_needed for result in self.open_results])


def _most(needed: Sequence[int | None]) -> int | None:
    known = [number for number in needed if number is not None]
    return max(known) if known and len(known) == len(needed) else None


def verdicts(view: StudyView, dataset: str, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """A verdict for each claim, on the losses as they are in the plan; a dataset that could not be read tests nothing."""
    if dataset in view.absent_datasets:
        reason = f"not on this machine: {view.absent_datasets[dataset]}"
        return [Verdict(claim, dataset, "not tested", reason) for claim in claims]
    of = loss_variants(view, dataset, [loss for claim in claims for loss in claim.losses])
    return verdicts_at(view, claims, of.default(), of)


def verdicts_at(
    view: StudyView, claims: Sequence[Claim], runs: Runs, of: LossVariants
) -> list[Verdict]:
    """The verdicts with these `runs` of each loss; `of` gives the split and the losses that are absent."""
    contrasts = (
        result
        for claim in claims
        if not wrong_protocol(claim, of)
        for part in claim.contrasts
        for result in (part, *part.members)
    )
    results = compare(contrasts, runs, view)
    return [_verdict(claim, results, runs, of) for claim in claims]


def wrong_protocol(claim: Claim, of: LossVariants) -> str:
    """Why the claim does not apply to the dataset's split; empty if it does."""
    if claim.protocol is None or of.protocol == claim.protocol:
        return ""
    if of.protocol is None:
        return NO_PROTOCOL
    return f"the claim is about a {claim.protocol} split, and this split is {of.protocol}"


def _verdict(
    claim: Claim, results: dict[Contrast, ContrastResult], runs: Runs, of: LossVariants
) -> Verdict:
    if reason := wrong_protocol(claim, of):
        return Verdict(claim, of.dataset, "not tested", reason)
    parts = tuple(
        Part(
            contrast,
            results.get(contrast),
            tuple(results[member] for member in contrast.members if member in results),
        )
        for contrast in claim.contrasts
    )
    orderings = tuple(order(ordering, runs) for ordering in claim.orderings)
    whole = Verdict(claim, of.dataset, "not tested", "", parts, orderings)
    needed = dict.fromkeys(loss for contrast in claim.contrasts for loss in contrast.losses)
    missing = [
        of.absent.get(loss, f"{loss} is not in the study") for loss in needed if loss not in runs
    ]
    measured = [r.difference for r in whole.results] + [o.correlation for o in orderings]
    if missing or all(value is None for value in measured):
        open_because = [r.reason for r in whole.results] + [o.reason for o in orderings]
        reasons = dict.fromkeys(missing or open_because)
        return whole._replace(reason="; ".join(reasons))
    decided = whole._replace(status=_status(whole))
    return decided._replace(reason=reason_of(decided))


def _status(verdict: Verdict) -> Status:
    """From corrected results only, in the order of docs/claims.md."""
    parts = set(verdict.sides)
    everything = {*parts, *(result.side for result in verdict.results)}
    if {"for", "against"} <= everything or {"for", "equivalent"} <= parts:
        return "mixed"
    if parts == {"for"}:
        return "supported"
    return "contradicted" if parts & set(_REFUTES) else "undecided"
