"""A verdict as one record, with its words and its numbers: for Python, for notebooks and for `lossgauge claims --json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lossgauge.claims.contrasts import ContrastResult, OrderingResult
from lossgauge.claims.over_datasets import over_datasets
from lossgauge.claims.sensitivity import Movement, movements
from lossgauge.claims.sentences import evidence, family
from lossgauge.claims.statements import CLAIMS, Claim
from lossgauge.claims.verdicts import Verdict, verdicts
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import Interval
from lossgauge.types import Record


class ClaimRecord(NamedTuple):
    """What a study says about one claim, on one dataset or over several."""

    key: str
    """`1` to `8` for the paper's claims, as in docs/claims.md."""
    claim: str
    verdict: str
    """`supported`, `contradicted`, `mixed`, `undecided` or `not tested`."""
    effect: float | None
    """The difference of a claim with one contrast, or the rank correlation of one ordering; otherwise None: see `members`."""
    interval: tuple[float, float] | None
    """The 95 % interval of the effect."""
    datasets: tuple[str, ...]
    """One dataset, or those over which the record is."""
    reason: str
    members: tuple[Record, ...]
    """On a dataset, each contrast (`kind` is `contrast`), its pairs of losses (`pair`) and each `ordering`. Over datasets,
    the verdict and the effect on each."""
    family: str = ""
    """What Holm's correction is for; empty without a comparison."""
    evidence: tuple[str, ...] = ()
    """A sentence for each of `members`."""
    caution: str = ""
    """What the claim cannot say."""
    movement: Movement | None = None
    """How the verdict moves with the settings; None if the study varies none."""

    @property
    def is_over_datasets(self) -> bool:
        """Whether it is over datasets, not on one."""
        return any(member["kind"] == "dataset" for member in self.members)

    @property
    def plain(self) -> Record:
        """Everything but the movement, as JSON can represent it."""
        fields = self._asdict()
        del fields["movement"]
        return fields


def records_on(
    view: StudyView, dataset: str, claims: Sequence[Claim] = CLAIMS
) -> list[ClaimRecord]:
    """One record for each claim on one dataset."""
    moves = {move.claim.key: move for move in movements(view, dataset, claims)}
    return [
        claim_record(verdict, moves.get(verdict.claim.key))
        for verdict in verdicts(view, dataset, claims)
    ]


def records_over(view: StudyView, claims: Sequence[Claim] = CLAIMS) -> list[ClaimRecord]:
    """One record for each claim over all datasets of a study; none without a dataset."""
    on_each = [verdicts(view, dataset, claims) for dataset in _datasets(view)]
    return [record_over(of_claim) for of_claim in zip(*on_each, strict=True)]


def all_records(view: StudyView, claims: Sequence[Claim] = CLAIMS) -> list[ClaimRecord]:
    """One record for each claim and dataset, then one for each claim over all datasets."""
    on_each = [
        record for dataset in _datasets(view) for record in records_on(view, dataset, claims)
    ]
    return on_each + records_over(view, claims)


def _datasets(view: StudyView) -> list[str]:
    """Those that were measured, then those that could not be read."""
    return [*view.datasets, *(name for name in view.absent_datasets if name not in view.datasets)]


def record_over(on_each: Sequence[Verdict]) -> ClaimRecord:
    """One claim over several datasets, from its verdict on each."""
    over, claim = over_datasets(on_each), on_each[0].claim
    records = [claim_record(verdict, None) for verdict in on_each]
    return ClaimRecord(
        claim.key,
        claim.words,
        over.status,
        *_effect(over.effect),
        tuple(verdict.dataset for verdict in on_each),
        over.reason,
        tuple(
            {
                "kind": "dataset",
                "dataset": record.datasets[0],
                "verdict": record.verdict,
                "effect": record.effect,
                "interval": record.interval,
            }
            for record in records
        ),
        caution=claim.caution,
    )


def claim_record(verdict: Verdict, movement: Movement | None) -> ClaimRecord:
    """The record of a verdict on one dataset."""
    members = [
        _contrast_numbers(result, part.contrast.words)
        for part in verdict.parts
        for result in part.results
    ]
    members += map(_ordering_numbers, verdict.orderings)
    effect = _effect(verdict.effect)
    if len(verdict.orderings) == 1 and not verdict.parts:
        correlation = verdict.orderings[0].correlation
        effect = correlation.value if correlation else None, None
    return ClaimRecord(
        verdict.claim.key,
        verdict.claim.words,
        verdict.status,
        *effect,
        (verdict.dataset,),
        verdict.reason,
        tuple(members),
        family(verdict),
        tuple(evidence(verdict)),
        verdict.claim.caution,
        movement,
    )


def _effect(of: Interval | None) -> tuple[float | None, tuple[float, float] | None]:
    if of is None:
        return None, None
    return of.mean, None if of.half_width is None else (of.low, of.high)


def _contrast_numbers(result: ContrastResult, part: str) -> Record:
    contrast, difference, decision = result.contrast, result.difference, result.decision
    effect, interval = _effect(difference)
    return {
        "kind": "pair" if len(contrast.losses) == 2 and contrast.words != part else "contrast",
        "left": list(contrast.left),
        "right": list(contrast.right),
        "column": contrast.column,
        "claimed": contrast.direction,
        "effect": effect,
        "interval": interval,
        "seeds": difference and difference.size,
        "p_value": difference and difference.p_value,
        "corrected_p_value": decision.p_value,
        "family": decision.family,
        "verdict": result.side,
        "reason": result.reason,
        "over": difference and difference.over,
        "approximate": difference and difference.approximate,
        "queries": difference and difference.queries,
        "seeds_needed": result.seeds_needed,
        "queries_needed": result.queries_needed,
    }


def _ordering_numbers(result: OrderingResult) -> Record:
    correlation = result.correlation
    return {
        "kind": "ordering",
        "x": result.ordering.x,
        "y": result.ordering.y,
        "losses": list(result.losses),
        "effect": correlation and correlation.value,
        "interval": None,
        "p_value": correlation and correlation.p_value,
        "verdict": result.side,
        "reason": result.reason,
    }
