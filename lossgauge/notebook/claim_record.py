"""A verdict on a claim of the paper as one record, with its words and its numbers."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.claims.comparisons import ComparisonResult, OrderingResult
from lossgauge.claims.sensitivity import Movement
from lossgauge.claims.sentences import correction, evidence
from lossgauge.claims.verdicts import Verdict
from lossgauge.types import Record


class ClaimRecord(NamedTuple):
    """What the seeds of a study say about one claim of the paper on one dataset."""

    key: str
    """`1` to `8`, as in docs/claims.md."""
    claim: str
    status: str
    """`supported`, `contradicted`, `undecided` or `not tested`."""
    reason: str
    evidence: tuple[str, ...]
    """A sentence for each comparison, with its numbers."""
    correction: str
    """How many comparisons hold after Holm's correction; empty where there is nothing to correct."""
    caution: str
    """What the claim cannot say."""
    numbers: tuple[Record, ...]
    """A row for each comparison: `difference`, `half_width` of its 95 % interval, `seeds`, `p_value`, `side`."""
    movement: Movement | None
    """How the verdict moves with the settings; None if the study varies none."""


def claim_record(verdict: Verdict, movement: Movement | None) -> ClaimRecord:
    claim = verdict.claim
    return ClaimRecord(
        key=claim.key,
        claim=claim.words,
        status=verdict.status,
        reason=verdict.reason,
        evidence=tuple(evidence(verdict)),
        correction=correction(verdict),
        caution=claim.caution,
        numbers=(
            *map(_comparison_numbers, verdict.comparisons),
            *map(_ordering_numbers, verdict.orderings),
        ),
        movement=movement,
    )


def _comparison_numbers(result: ComparisonResult) -> Record:
    comparison, interval = result.comparison, result.difference
    return {
        "left": comparison.left,
        "right": comparison.right,
        "column": comparison.column,
        "claimed": comparison.direction,
        "difference": interval and interval.mean,
        "half_width": interval and interval.half_width,
        "seeds": interval and interval.size,
        "p_value": interval and interval.p_value,
        "corrected_p_value": result.corrected_p_value,
        "side": result.side,
    }


def _ordering_numbers(result: OrderingResult) -> Record:
    correlation = result.correlation
    return {
        "x": result.ordering.x,
        "y": result.ordering.y,
        "losses": list(result.losses),
        "rank_correlation": correlation and correlation.value,
        "p_value": correlation and correlation.p_value,
        "side": result.side,
    }
