"""Every run that a study asks for, in the order of its plan: some from the start, some when a search has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lossgauge.plan.loss import LossPlan
from lossgauge.plan.study import Plan
from lossgauge.study.schedule.run_config import train_count
from lossgauge.study.schedule.runs import Run, plan_runs
from lossgauge.study.schedule.search import Search
from lossgauge.types import FeatureSet, Record


class Ledger(Protocol):
    """Which runs to do, and what follows from their ends: all that the runner needs to know of a schedule."""

    @property
    def given(self) -> list[Run]:
        """The runs that need no other run."""

    @property
    def runs(self) -> list[Run]:
        """All runs asked for so far, in an order that does not depend on which ended first."""

    @property
    def expected(self) -> int:
        """The number of runs in the end, as far as it is known."""

    @property
    def work(self) -> int:
        """Passes over a training row in all expected runs."""

    def next_runs(self) -> list[Run]:
        """Runs that have become possible since the last call."""

    def ended(self, run: str, summary: Record) -> None:
        """Record the end of a run; an empty summary means that it failed."""

    def tuned(self) -> list[Record]:
        """The result of each search that is over."""


class RunQueue:
    """The runs asked for so far, and those that become possible when others end. It touches no disk."""

    def __init__(self, plan: Plan, prepared: Sequence[FeatureSet]) -> None:
        self._plan = plan
        self._given = [run for features in prepared for run in plan_runs(plan, features)]
        self.searches = [
            Search(plan, features, loss)
            for features in (prepared if plan.tune is not None else ())
            for loss in plan.losses
        ]
        self._tuned: dict[int, list[Run]] = {}
        """By the number of their search, once it is over."""
        self._objectives: dict[str, float | None] = {}
        """By the name of the run: another search may ask for the same run later."""
        self._given_out = False

    @property
    def given(self) -> list[Run]:
        """The runs that need no search."""
        return self._given

    @property
    def runs(self) -> list[Run]:
        """All runs asked for so far, in an order that does not depend on which ended first."""
        trials = [run for search in self.searches for run in search.asked]
        tuned = [run for number in sorted(self._tuned) for run in self._tuned[number]]
        return [*self._given, *trials, *tuned]

    @property
    def expected(self) -> int:
        """The number of runs in the end, unless all trials of a search fail."""
        over = len(self._tuned)
        open_searches = len(self.searches) - over
        trials = sum(search.trials for search in self.searches)
        tuned = sum(map(len, self._tuned.values())) + open_searches * len(self._plan.seeds)
        return len(self._given) + trials + tuned

    @property
    def work(self) -> int:
        """Passes over a training row in all expected runs: time is proportional to it."""
        asked = sum(passes(run) for run in self.runs)
        budget = self._plan.tune
        if budget is None:
            return asked
        epochs = budget.epochs or self._plan.epochs
        ahead = 0
        for number, search in enumerate(self.searches):
            rows = train_count(search.features)
            ahead += (search.trials - len(search.asked)) * epochs * rows
            if number not in self._tuned:
                ahead += len(self._plan.seeds) * self._plan.epochs * rows
        return asked + ahead

    def next_runs(self) -> list[Run]:
        """Runs that have become possible since the last call."""
        possible = [] if self._given_out else list(self._given)
        self._given_out = True
        for number, search in enumerate(self.searches):
            if number in self._tuned:
                continue
            trials = search.next_round()
            for run in trials:
                if run.name in self._objectives:
                    search.ended(run.name, self._objectives[run.name])
            possible += trials
            if search.is_over:
                best = search.best()
                chosen = [] if best is None else tuned_runs(self._plan, search, best.loss)
                self._tuned[number] = chosen
                possible += chosen
        return possible

    def ended(self, run: str, summary: Record) -> None:
        """Record the end of a run; an empty summary means that it failed."""
        objective = self._objectives[run] = summary.get(self._plan.selection_metric)
        for search in self.searches:
            if any(trial.name == run for trial in search.asked):
                search.ended(run, objective)

    def tuned(self) -> list[Record]:
        """The result of each search that is over, in the order of the plan."""
        return [search.row() for search in self.searches if search.is_over]


def tuned_runs(plan: Plan, search: Search, chosen: LossPlan) -> list[Run]:
    """The loss of a search with chosen settings, with the seeds of the study, which no trial has seen."""
    return [Run.tuned(plan, search.features, chosen, seed, of=search.loss) for seed in plan.seeds]


def passes(run: Run) -> int:
    """Passes over a training row in a run."""
    return run.config.epochs * run.config.train_samples
