"""The search as a ledger of runs: each rung is asked for when the one before has ended."""

from __future__ import annotations

from collections.abc import Sequence

from lossgauge.advice.halving import Score, best_first, best_of_losses, survivors
from lossgauge.advice.schedule import rung_sizes
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.study import Plan
from lossgauge.study.schedule.run_queue import passes
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet, Record


class HalvingSearch:
    """A `Ledger`: which trials to do depends only on the ends of the rung before, so an interrupted search continues."""

    def __init__(
        self,
        plan: Plan,
        features: FeatureSet,
        candidates: Sequence[LossPlan],
        epochs: Sequence[int],
    ) -> None:
        self.candidates = candidates
        self.epochs = epochs
        self._metric = plan.selection_metric
        bases = {loss.name: loss for loss in plan.losses}
        plans = [plan.model_copy(update={"epochs": each}) for each in epochs]
        seen: dict[str, int] = {}
        numbers = []
        for one in candidates:
            numbers.append(seen.get(one.name, 0))
            seen[one.name] = numbers[-1] + 1
        self._trials = [
            [
                Run.trial(of, features, one, number, of=bases[one.name])
                for one, number in zip(candidates, numbers, strict=True)
            ]
            for of in plans
        ]
        """Of each rung, by the number of the candidate."""
        self._asked: list[list[int]] = []
        """Candidates of each rung so far."""
        self._values: dict[str, float | None] = {}

    @property
    def given(self) -> list[Run]:
        """The first rung."""
        return list(self._trials[0])

    @property
    def runs(self) -> list[Run]:
        return [
            self._trials[rung][number] for rung, asked in enumerate(self._asked) for number in asked
        ]

    @property
    def expected(self) -> int:
        return sum(self._sizes())

    @property
    def work(self) -> int:
        sizes = self._sizes()
        return sum(
            size * passes(trials[0]) for size, trials in zip(sizes, self._trials, strict=True)
        )

    def next_runs(self) -> list[Run]:
        """A whole rung, or none while the last one has not ended."""
        rung = len(self._asked)
        if rung == len(self.epochs):
            return []
        if rung == 0:
            chosen = list(range(len(self.candidates)))
        else:
            names = [self._trials[rung - 1][number].name for number in self._asked[-1]]
            if any(name not in self._values for name in names):
                return []
            chosen = survivors(self.scores(rung - 1), after_first=rung == 1)
        self._asked.append(chosen)
        return [self._trials[rung][number] for number in chosen]

    def ended(self, run: str, summary: Record) -> None:
        self._values[run] = summary.get(self._metric)

    def tuned(self) -> list[Record]:
        return []

    def scores(self, rung: int) -> list[Score]:
        """Of the candidates of a rung that have ended."""
        if rung >= len(self._asked):
            return []
        names = {number: self._trials[rung][number].name for number in self._asked[rung]}
        return [
            Score(number, self.candidates[number].name, self._values[name])
            for number, name in names.items()
            if name in self._values
        ]

    @property
    def best(self) -> Score | None:
        """The highest score of any rung, also of trials that were there before; None without one."""
        scores = [one for rung in range(len(self._asked)) for one in self.scores(rung)]
        return next(iter(best_first(scores)), None)

    def standing(self) -> list[Score]:
        """The best candidate of each loss so far, best first: of the last rung, then of losses that are only in the rungs
        before. A rung that has not ended counts with what it has."""
        best: dict[str, Score] = {}
        for rung in reversed(range(len(self._asked))):
            for one in best_of_losses(self.scores(rung), len(self.candidates)):
                best.setdefault(one.loss, one)
        return list(best.values())

    def _sizes(self) -> list[int]:
        """Of all rungs; of those to come, as if no trial failed."""
        losses = len({one.name for one in self.candidates})
        planned = rung_sizes(losses, len(self.candidates) // losses, len(self.epochs))
        return [len(asked) for asked in self._asked] + planned[len(self._asked) :]
