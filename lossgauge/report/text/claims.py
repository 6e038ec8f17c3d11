"""The claims of the paper as the page shows them: a verdict for each dataset, its evidence, and how it moves."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.claims.sensitivity import Movement, movements
from lossgauge.claims.sentences import correction, evidence, shares, summary, turning
from lossgauge.claims.statements import CLAIMS
from lossgauge.claims.verdicts import Verdict, verdicts
from lossgauge.results.view import StudyView


class ShownVerdict(NamedTuple):
    """A verdict in the words of the page."""

    key: str
    words: str
    status: str
    reason: str
    correction: str
    caution: str
    evidence: tuple[str, ...]


class ShownMovement(NamedTuple):
    """A claim under other settings, one in each column."""

    key: str
    words: str
    cells: tuple[tuple[str, str], ...]
    """Status, and what it rests on: counts of sides, or why it was not tested."""
    shares: str
    turning: str


class DatasetClaims(NamedTuple):
    dataset: str
    verdicts: tuple[ShownVerdict, ...]
    """Those that were not tested come last."""
    columns: tuple[str, ...]
    """Of `movements`: `default`, `tuned`, the multiples."""
    movements: tuple[ShownMovement, ...]
    """Empty where no two settings can be compared."""


class ClaimLine(NamedTuple):
    """One claim over all datasets."""

    key: str
    words: str
    statuses: tuple[tuple[str, str], ...]
    """Status and counts of sides, for each dataset."""


class Claims(NamedTuple):
    datasets: tuple[DatasetClaims, ...]
    lines: tuple[ClaimLine, ...]


def claims(view: StudyView) -> Claims | None:
    """All claims on all datasets; None where the study has none of the paper's losses."""
    needed = {loss for claim in CLAIMS for loss in claim.losses}
    if not needed & {loss.name for loss in view.losses}:
        return None
    by_dataset = {dataset: verdicts(view, dataset) for dataset in view.datasets}
    lines = tuple(
        ClaimLine(
            claim.key,
            claim.words,
            tuple((of[number].status, summary(of[number])) for of in by_dataset.values()),
        )
        for number, claim in enumerate(CLAIMS)
    )
    return Claims(tuple(_dataset_claims(view, *item) for item in by_dataset.items()), lines)


def _dataset_claims(view: StudyView, dataset: str, of_dataset: list[Verdict]) -> DatasetClaims:
    ordered = sorted(of_dataset, key=lambda verdict: verdict.status == "not tested")
    moves = movements(view, dataset)
    if not any(move.combinations.total for move in moves):
        moves = []
    columns = _columns(moves)
    return DatasetClaims(
        dataset,
        tuple(_shown(verdict) for verdict in ordered),
        tuple(columns),
        tuple(_moved(move, columns) for move in moves),
    )


def _shown(verdict: Verdict) -> ShownVerdict:
    claim = verdict.claim
    return ShownVerdict(
        claim.key,
        claim.words,
        verdict.status,
        verdict.reason,
        correction(verdict),
        claim.caution,
        tuple(evidence(verdict)),
    )


def _columns(moves: list[Movement]) -> list[str]:
    factors = sorted({factor for move in moves for factor, _ in move.at_factors})
    tuned = ["tuned"] if any(move.tuned for move in moves) else []
    return ["default", *tuned, *map(_multiple, factors)]


def _moved(move: Movement, columns: list[str]) -> ShownMovement:
    verdict_of = {"default": move.default}
    verdict_of |= {_multiple(factor): verdict for factor, verdict in move.at_factors}
    if move.tuned is not None:
        verdict_of["tuned"] = move.tuned
    cells = tuple(
        (verdict.status, summary(verdict) or verdict.reason)
        if (verdict := verdict_of.get(column)) is not None
        else ("—", "")
        for column in columns
    )
    claim = move.claim
    return ShownMovement(
        claim.key, claim.words, cells, shares(move.combinations), turning(move.flips)
    )


def _multiple(factor: float) -> str:
    return f"× {factor:g}"
