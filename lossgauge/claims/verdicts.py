"""The verdict of a study on a claim: supported, contradicted, undecided or not tested, with the reason.

A claim is supported only if all its comparisons are: this needs no correction, because no comparison can be picked.
Holm's correction is given in addition; it shows which single comparisons keep their side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lossgauge.claims.comparisons import (
    ComparisonResult,
    OrderingResult,
    Runs,
    Side,
    compare,
    order,
)
from lossgauge.claims.statements import CLAIMS, Claim, Comparison
from lossgauge.claims.variants import LossVariants, loss_variants
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import holm

Status = Literal["supported", "contradicted", "undecided", "not tested"]

NO_PROTOCOL = "the results do not say whether the test classes are unseen in training"


class Verdict(NamedTuple):
    claim: Claim
    dataset: str
    status: Status
    reason: str
    """In words: how many comparisons are on which side, or why it was not tested."""
    comparisons: tuple[ComparisonResult, ...] = ()
    orderings: tuple[OrderingResult, ...] = ()

    @property
    def parts(self) -> list[ComparisonResult | OrderingResult]:
        return [*self.comparisons, *self.orderings]

    @property
    def sides(self) -> list[Side]:
        return [part.side for part in self.parts]

    @property
    def is_mixed(self) -> bool:
        """Whether comparisons are on both sides."""
        return {"for", "against"} <= set(self.sides)

    @property
    def counts(self) -> str:
        """`mixed: 3 for, 2 against, 1 open`."""
        counts = [(side, self.sides.count(side)) for side in ("for", "against", "open")]
        listed = ", ".join(f"{count} {side}" for side, count in counts if count)
        return f"{'mixed: ' if self.is_mixed else ''}{listed}"

    @property
    def resolved(self) -> int:
        """Comparisons that have a side."""
        return sum(side != "open" for side in self.sides)

    @property
    def holding_up(self) -> int:
        """Comparisons that have a side after Holm's correction as well."""
        return sum(result.holds_up for result in self.comparisons)


def verdicts(view: StudyView, dataset: str, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """A verdict for each claim, on the losses as they are in the plan."""
    of = loss_variants(view, dataset, [loss for claim in claims for loss in claim.losses])
    return [verdict(claim, of.default(), of) for claim in claims]


def verdict(claim: Claim, runs: Runs, of: LossVariants) -> Verdict:
    """The verdict on `claim` with the `runs` of each loss; `of` gives the split and the losses that are absent."""
    if reason := wrong_protocol(claim, of):
        return Verdict(claim, of.dataset, "not tested", reason)
    whole = Verdict(
        claim,
        of.dataset,
        "not tested",
        "",
        _corrected([compare(c, runs) for c in claim.comparisons if _has(c, runs)]),
        tuple(order(ordering, runs) for ordering in claim.orderings),
    )
    needed = dict.fromkeys(loss for c in claim.comparisons for loss in c.losses)
    missing = [
        of.absent.get(loss, f"{loss} is not in the study") for loss in needed if loss not in runs
    ]
    measured = [w.difference for w in whole.comparisons] + [o.correlation for o in whole.orderings]
    if missing or all(value is None for value in measured):
        reasons = dict.fromkeys(missing or [part.reason for part in whole.parts])
        return whole._replace(reason="; ".join(reasons))
    return whole._replace(status=_status(whole.sides), reason=_reason(whole))


def wrong_protocol(claim: Claim, of: LossVariants) -> str:
    """Why the claim does not apply to the dataset's split; empty if it does."""
    if claim.protocol is None or of.protocol == claim.protocol:
        return ""
    if of.protocol is None:
        return NO_PROTOCOL
    return f"the claim is about a {claim.protocol} split, and this split is {of.protocol}"


def _has(comparison: Comparison, runs: Runs) -> bool:
    return all(loss in runs for loss in comparison.losses)


def _corrected(comparisons: Sequence[ComparisonResult]) -> tuple[ComparisonResult, ...]:
    p_values = [w.difference.p_value if w.difference else None for w in comparisons]
    corrected = iter(holm([p for p in p_values if p is not None]))
    return tuple(
        w._replace(corrected_p_value=None if p is None else next(corrected))
        for w, p in zip(comparisons, p_values, strict=True)
    )


def _status(sides: Sequence[Side]) -> Status:
    if set(sides) == {"for"}:
        return "supported"
    return "contradicted" if set(sides) == {"against"} else "undecided"


def _reason(verdict: Verdict) -> str:
    if verdict.orderings and not verdict.comparisons:
        return verdict.orderings[0].reason or _correlation(verdict.orderings[0])
    count = len(verdict.parts)
    reasons = {part.reason for part in verdict.parts}
    if len(reasons) == 1 and (reason := reasons.pop()):
        return reason
    if len(set(verdict.sides)) == 1:
        return f"all {count} comparisons {verdict.sides[0]} it"
    return f"{verdict.counts}, of {count} comparisons"


def _correlation(result: OrderingResult) -> str:
    value = result.correlation.value if result.correlation else 0.0
    words = f"rank correlation {value:+.2f} over {len(result.losses)} losses"
    return words.replace("-", "−")
