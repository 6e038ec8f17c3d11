"""The claims of the paper as the page shows them: a verdict a dataset, its evidence, and how it moves."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.claims.sensitivity import Movement, movements
from lossgauge.claims.sentences import correction, evidence, shares, summary, turning
from lossgauge.claims.statements import CLAIMS
from lossgauge.claims.verdicts import Verdict, verdicts
from lossgauge.report.contents import datasets_of, losses_of
from lossgauge.results.view import StudyView
from lossgauge.types import Results


class Shown(NamedTuple):
    """A verdict in the words of the page."""

    key: str
    words: str
    status: str
    reason: str
    correction: str
    caution: str
    evidence: tuple[str, ...]


class Moved(NamedTuple):
    """A claim under other settings, a column each."""

    key: str
    words: str
    cells: tuple[tuple[str, str], ...]
    """Status, and what it rests on: counts of sides, or why it was not tested."""
    shares: str
    turning: str


class OfDataset(NamedTuple):
    dataset: str
    shown: tuple[Shown, ...]
    """Those that were not tested last."""
    columns: tuple[str, ...]
    """Of `moved`: `default`, the multiples, `tuned`."""
    moved: tuple[Moved, ...]
    """Empty where no two settings can be set side by side."""


class Line(NamedTuple):
    """One claim over all datasets."""

    key: str
    words: str
    statuses: tuple[tuple[str, str], ...]
    """Status and counts of sides, a dataset each."""


class Claims(NamedTuple):
    datasets: tuple[OfDataset, ...]
    lines: tuple[Line, ...]


def claims(results: Results) -> Claims | None:
    """All claims on all datasets; None where the study has none of the paper's losses."""
    needed = {loss for claim in CLAIMS for loss in claim.losses}
    if not needed & {loss.partition("(")[0] for loss in losses_of(results)}:
        return None
    names = datasets_of(results)
    found = {dataset: verdicts(StudyView(results), dataset) for dataset in names}
    lines = tuple(
        Line(
            claim.key,
            claim.words,
            tuple((found[name][number].status, summary(found[name][number])) for name in names),
        )
        for number, claim in enumerate(CLAIMS)
    )
    return Claims(tuple(_of_dataset(results, name, found[name]) for name in names), lines)


def _of_dataset(results: Results, dataset: str, found: list[Verdict]) -> OfDataset:
    ordered = sorted(found, key=lambda verdict: verdict.status == "not tested")
    moves = movements(StudyView(results), dataset)
    if not any(move.combinations.total for move in moves):
        moves = []
    columns = _columns(moves)
    return OfDataset(
        dataset,
        tuple(_shown(verdict) for verdict in ordered),
        tuple(columns),
        tuple(_moved(move, columns) for move in moves),
    )


def _shown(verdict: Verdict) -> Shown:
    claim = verdict.claim
    return Shown(
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
    return ["default", *tuned, *(f"× {factor:g}" for factor in factors)]


def _moved(move: Movement, columns: list[str]) -> Moved:
    found = {"default": move.default}
    found |= {f"× {factor:g}": verdict for factor, verdict in move.at_factors}
    if move.tuned is not None:
        found["tuned"] = move.tuned
    cells = tuple(
        (found[name].status, summary(found[name]) or found[name].reason)
        if name in found
        else ("—", "")
        for name in columns
    )
    claim = move.claim
    return Moved(claim.key, claim.words, cells, shares(move.combinations), turning(move.flips))
