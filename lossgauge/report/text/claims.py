"""The claims as the page shows them: a verdict for each dataset, its evidence, how it moves, and all datasets together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lossgauge.claims.over_datasets import over_datasets
from lossgauge.claims.own_claims import claims_of
from lossgauge.claims.sensitivity import Movement, movements
from lossgauge.claims.sentences import evidence, family, shares, summary, turning
from lossgauge.claims.statements import CLAIMS, Claim
from lossgauge.claims.verdicts import Verdict, verdicts
from lossgauge.plan.claim import ClaimPlan
from lossgauge.results.view import StudyView


class ShownVerdict(NamedTuple):
    """A verdict in the words of the page."""

    key: str
    words: str
    status: str
    effect: str
    """The difference of a claim with one contrast, or how many pairs are on which side; empty if not tested."""
    reason: str
    family: str
    """What the correction is for."""
    caution: str
    evidence: tuple[str, ...]


class ShownMovement(NamedTuple):
    """A claim under other settings, one in each column."""

    key: str
    words: str
    cells: tuple[tuple[str, str], ...]
    """Status, and its effect or counts of sides, or why it was not tested."""
    shares: str
    turning: str


class DatasetClaims(NamedTuple):
    dataset: str
    verdicts: tuple[ShownVerdict, ...]
    """Of the claims that this dataset can test."""
    not_tested: tuple[ShownVerdict, ...]
    columns: tuple[str, ...]
    """Of `movements`: `default`, `tuned`, the multiples."""
    movements: tuple[ShownMovement, ...]
    """Empty where no two settings can be compared."""


class ClaimLine(NamedTuple):
    """One claim over all datasets."""

    key: str
    words: str
    statuses: tuple[tuple[str, str], ...]
    """Status, and effect or counts of sides, for each dataset."""
    over: tuple[str, str]
    """Status over all datasets, and its reason."""

    @property
    def status(self) -> str:
        """The status for a badge: that of the only dataset, or over all of them."""
        return self.statuses[0][0] if len(self.statuses) == 1 else self.over[0]


class Claims(NamedTuple):
    datasets: tuple[DatasetClaims, ...]
    lines: tuple[ClaimLine, ...]
    """Of the claims that some dataset can test."""
    not_tested: tuple[ClaimLine, ...]
    """The others: the page only names them."""
    title: str
    """Whose claims they are."""
    by_query: str
    """The measures that are paired by query too."""


def claims(view: StudyView, own: Sequence[ClaimPlan] = ()) -> Claims | None:
    """All claims on all datasets; None if the study has no claims of its own and none of the paper's losses, or no classes.

    Raises PlanError for an own claim about an unknown loss or column.
    """
    stated = claims_of(view, own)
    of_paper = {loss for claim in CLAIMS for loss in claim.losses}
    has_own = any(claim not in CLAIMS for claim in stated)
    testable = not view.of_pairs and of_paper & {loss.name for loss in view.losses}
    if not has_own and not testable:
        return None
    by_dataset = {dataset: verdicts(view, dataset, stated) for dataset in view.datasets}
    lines = tuple(
        _line([of_dataset[number] for of_dataset in by_dataset.values()])
        for number in range(len(stated))
        if by_dataset
    )
    datasets = tuple(_dataset_claims(view, *item, stated) for item in by_dataset.items())
    tested = tuple(line for line in lines if line.status != "not tested")
    not_tested = tuple(line for line in lines if line.status == "not tested")
    title = "Your claims" if view.of_pairs else "Claims of the paper"
    if has_own and not view.of_pairs:
        title += ", and your own"
    by_query = "nDCG@10, MRR@10 and Recall@k" if view.of_pairs else "R@k, R-precision and MAP@R"
    return Claims(datasets, tested, not_tested, title, by_query)


def _line(on_each: list[Verdict]) -> ClaimLine:
    over, claim = over_datasets(on_each), on_each[0].claim
    statuses = tuple((verdict.status, summary(verdict)) for verdict in on_each)
    return ClaimLine(claim.key, claim.words, statuses, (over.status, over.reason))


def _dataset_claims(
    view: StudyView, dataset: str, of_dataset: list[Verdict], stated: Sequence[Claim]
) -> DatasetClaims:
    tested = [verdict for verdict in of_dataset if verdict.status != "not tested"]
    moves = movements(view, dataset, stated)
    if not any(move.combinations.total for move in moves):
        moves = []
    columns = _columns(moves)
    return DatasetClaims(
        dataset,
        tuple(map(_shown, tested)),
        tuple(_shown(verdict) for verdict in of_dataset if verdict not in tested),
        tuple(columns),
        tuple(_moved(move, columns) for move in moves),
    )


def _shown(verdict: Verdict) -> ShownVerdict:
    claim = verdict.claim
    return ShownVerdict(
        claim.key,
        claim.words,
        verdict.status,
        summary(verdict),
        verdict.reason,
        family(verdict),
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
