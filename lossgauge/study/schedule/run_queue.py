"""Every run that a study asks for, in the order of its plan: some from the start, some once a search has spoken."""

from __future__ import annotations

from collections.abc import Sequence

from lossgauge.plan.study import Plan
from lossgauge.study.schedule.runs import Run, plan_runs, tuned_runs
from lossgauge.study.schedule.search import Search
from lossgauge.types import FeatureSet, Record


class Ledger:
    """What is asked for so far, and what that opens. It does nothing itself and touches no disk."""

    def __init__(self, plan: Plan, prepared: Sequence[FeatureSet]) -> None:
        self._plan = plan
        self._given = [run for found in prepared for run in plan_runs(plan, found)]
        self.searches = [
            Search(plan, found, loss)
            for found in (prepared if plan.tune is not None else ())
            for loss in plan.losses
        ]
        self._tuned: dict[int, list[Run]] = {}
        self._ends: dict[str, float | None] = {}
        """Objectives by the name of their run: another search may ask for the same one later."""
        self._handed_out = False

    @property
    def given(self) -> list[Run]:
        """The runs that need no search."""
        return self._given

    @property
    def runs(self) -> list[Run]:
        """All that are asked for so far, in an order that does not depend on which ended first."""
        trials = [run for search in self.searches for run in search.asked]
        tuned = [run for number in sorted(self._tuned) for run in self._tuned[number]]
        return [*self._given, *trials, *tuned]

    @property
    def expected(self) -> int:
        """How many there will be, if no search fails in all its trials."""
        over = len(self._tuned)
        open_searches = len(self.searches) - over
        trials = sum(search.trials for search in self.searches)
        tuned = sum(map(len, self._tuned.values())) + open_searches * len(self._plan.seeds)
        return len(self._given) + trials + tuned

    @property
    def work(self) -> int:
        """Passes over a training row in all expected runs: what time is proportional to."""
        given = sum(passes(run) for run in self.runs)
        budget = self._plan.tune
        if budget is None:
            return given
        epochs = budget.epochs or self._plan.epochs
        ahead = 0
        for number, search in enumerate(self.searches):
            rows = len(search.features.train)
            ahead += (search.trials - len(search.asked)) * epochs * rows
            if number not in self._tuned:
                ahead += len(self._plan.seeds) * self._plan.epochs * rows
        return given + ahead

    def next_runs(self) -> list[Run]:
        """Runs that have become possible since the last call."""
        fresh = [] if self._handed_out else list(self._given)
        self._handed_out = True
        for number, search in enumerate(self.searches):
            if number in self._tuned:
                continue
            asked = search.next_round()
            for run in asked:
                if run.name in self._ends:
                    search.ended(run.name, self._ends[run.name])
            fresh += asked
            if search.is_over:
                best = search.best()
                self._tuned[number] = (
                    []
                    if best is None
                    else tuned_runs(self._plan, search.features, search.loss, best.loss)
                )
                fresh += self._tuned[number]
        return fresh

    def ended(self, run: str, summary: Record) -> None:
        """Take the end of a run; an empty summary says that it failed."""
        objective = self._ends[run] = summary.get(self._plan.selection_metric)
        for search in self.searches:
            if any(trial.name == run for trial in search.asked):
                search.ended(run, objective)

    def tuned(self) -> list[Record]:
        """What came of each search that is over, in the order of the plan."""
        return [search.row() for search in self.searches if search.is_over]


def passes(run: Run) -> int:
    """Passes over a training row in a run."""
    epochs: int = run.config["epochs"]
    return epochs * int(run.config["train_samples"])
