"""The search of a loss's own settings: equal budgets, on the training side only, the same after any interruption.

Optuna's TPE (Bergstra et al. 2011) proposes settings; the study's folder keeps the results. A search goes in rounds: what a round
proposes depends only on the rounds before it, so a search that was interrupted, or whose trials ended in another order,
gives the same settings. https://papers.nips.cc/paper/4443
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from lossgauge.errors import InputError, MissingExtra, PlanError, nearest
from lossgauge.losses.registry import all_settings, loss_maker, settings_of
from lossgauge.plan.loss import LEARNING_RATE, Choices, LossPlan, Range, Searched, ends
from lossgauge.plan.study import Plan
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet, Record

ROUND = 5
"""Trials of a round: our choice, between learning from each trial and doing many at once."""

SOME_CLASSES = 100
"""Number of classes of a loss that is made only to check its settings, before the data are known."""


def space(loss: LossPlan, plan: Plan) -> dict[str, Searched]:
    """The searched ranges of a loss: those of the plan, else those of its class, without fixed settings; and the
    learning rate."""
    rate = plan.learning_rate
    common = plan.tune.learning_rate if plan.tune else None
    declared: dict[str, Searched] = {
        key: Range(**known.search._asdict())
        for key, known in settings_of(loss.name).items()
        if known.search is not None
    }
    every: dict[str, Searched] = {
        LEARNING_RATE: common or Range(low=rate / 10, high=rate * 10, log=True),
        **declared,
        **loss.searched,
    }
    return {key: searched for key, searched in every.items() if key not in loss.at({}).settings}


def check_space(loss: LossPlan, plan: Plan) -> None:
    """PlanError if a setting cannot be tuned, or if a range includes values that the loss does not accept."""
    known = settings_of(loss.name)
    for key in loss.searched:
        if key == LEARNING_RATE:
            continue
        if key not in known:
            raise PlanError(
                f"the loss {loss.name!r} has no setting {key!r} to tune{nearest(key, known)}"
            )
        if not known[key].tunable:
            why = (
                "its value comes from the data; leave it out"
                if known[key].from_data
                else "it changes what is measured; give one value"
            )
            raise PlanError(f"{key} of {loss.name} cannot be tuned: {why}")
    for key, searched in loss.searched.items():
        whole = isinstance(searched, Range) and _is_whole(loss.name, key)
        for end in ends(searched):
            if whole and end != int(end):
                raise PlanError(
                    f"{key} of {loss.name} is a whole number, so both ends of its range must be whole numbers, got {end:g}"
                )
            end = int(end) if whole else end
            fixed = loss.at({key: end}).fixed
            try:
                loss_maker(
                    loss.name,
                    fixed,
                    class_count=SOME_CLASSES,
                    embedding_size=plan.embedding_size,
                )()
            except InputError as error:
                raise PlanError(
                    f"the range of {key} of {loss.name} includes {end}, which is not valid: {error}"
                ) from None
    if not space(loss, plan):
        raise PlanError(
            f"{loss.title} has no setting left to tune; give a range for one, or leave tune out"
        )


@dataclass
class Search:
    """The search of one loss on one dataset: trials go out by rounds, and their ends come in."""

    plan: Plan
    features: FeatureSet
    loss: LossPlan
    asked: list[Run] = field(default_factory=list)
    """Every trial so far, by number."""
    _objectives: dict[str, float | None] = field(default_factory=dict)
    """Of trials that ended, by the name of their run; None where it failed."""
    _told: int = 0

    def __post_init__(self) -> None:
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        budget = self.plan.tune
        if budget is None:
            raise PlanError("a search needs the key 'tune' in the study file")
        self.trials = budget.trials
        self._space = space(self.loss, self.plan)
        words = f"{self.features.dataset} {self.loss.model_dump_json()}"
        seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")
        kinds = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * ROUND),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        self._study = optuna.create_study(direction="maximize", sampler=kinds[budget.sampler]())
        self._round: list[Any] = []

    def next_round(self) -> list[Run]:
        """The trials to do next: none while the last round is not at its end, nor after the last trial."""
        if any(run.name not in self._objectives for run in self.asked):
            return []
        self._tell()
        first = len(self.asked)
        for number in range(first, min(first + ROUND, self.trials)):
            if number == 0:
                self.asked.append(self._trial(0, self.loss.at({}), self._ask_defaults()))
                continue
            trial = self._study.ask()
            at = self.loss.at({key: self._suggest(trial, key) for key in self._space})
            self.asked.append(self._trial(number, at, trial))
        return self.asked[first:]

    def ended(self, run: str, objective: float | None) -> None:
        """Take the objective of a trial's run; None where it failed."""
        self._objectives[run] = objective

    @property
    def is_over(self) -> bool:
        return len(self.asked) == self.trials and all(
            run.name in self._objectives for run in self.asked
        )

    def best(self) -> Run | None:
        """The best trial, the earlier of equals; None where all failed."""
        known = [run for run in self.asked if self._objectives.get(run.name) is not None]
        return max(known, key=lambda run: self._objectives[run.name] or 0.0, default=None)

    def row(self) -> Record:
        """What came of the search, for the record."""
        best = self.best()
        failed = [run for run in self.asked if self._objectives.get(run.name) is None]
        chosen: Record = {}
        if best is not None:
            taken = {**best.config.settings, LEARNING_RATE: best.config.learning_rate}
            chosen = {key: taken[key] for key in self._space if key in taken}
        return {
            "dataset": self.features.dataset,
            "base": self.loss.title,
            "loss": self.loss.tuned_title,
            "trial": None if best is None else best.extra_columns["trial"],
            "settings": ", ".join(f"{key}={_short(value)}" for key, value in chosen.items()),
            "objective": None if best is None else self._objectives[best.name],
            "default_objective": self._objectives.get(self.asked[0].name),
            "trials": len(self.asked),
            "failed": len(failed),
            "error": None if best is not None else f"all {len(self.asked)} trials failed",
        }

    def _trial(self, number: int, at: LossPlan, asked: Any) -> Run:
        self._round.append(asked)
        return Run.trial(self.plan, self.features, at, number, of=self.loss)

    def _ask_defaults(self) -> Any:
        """Optuna's trial with the settings of the plan; None if they are outside the searched ranges."""
        settings = all_settings(self.loss.name, self.loss.at({}).fixed)
        taken = {LEARNING_RATE: self.plan.learning_rate, **settings}
        if not all(_holds(searched, taken.get(key)) for key, searched in self._space.items()):
            return None
        self._study.enqueue_trial({key: taken[key] for key in self._space})
        trial = self._study.ask()
        for key in self._space:
            self._suggest(trial, key)
        return trial

    def _suggest(self, trial: Any, key: str) -> Any:
        searched = self._space[key]
        if isinstance(searched, Choices):
            return trial.suggest_categorical(key, searched.choices)
        if _is_whole(self.loss.name, key):
            return trial.suggest_int(key, int(searched.low), int(searched.high), log=searched.log)
        value = trial.suggest_float(key, searched.low, searched.high, log=searched.log)
        # as it is shown, so that a reader's copy is the same run; rounding must not leave the range
        return min(max(float(f"{value:.4g}"), searched.low), searched.high)

    def _tell(self) -> None:
        import optuna

        done = self.asked[self._told :]
        for trial, run in zip(self._round, done, strict=True):
            objective = self._objectives[run.name]
            if trial is None:
                continue
            if objective is None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, objective)
        self._told = len(self.asked)
        self._round = []


def import_optuna() -> Any:
    """Optuna, or MissingExtra that says how to get it."""
    try:
        import optuna
    except ImportError:
        raise MissingExtra("tune needs Optuna: pip install 'lossgauge[tune]'") from None
    return optuna


def _is_whole(loss: str, key: str) -> bool:
    """Whether a setting is a whole number."""
    return key != LEARNING_RATE and settings_of(loss)[key].kind is int


def _holds(searched: Searched, value: Any) -> bool:
    if isinstance(searched, Choices):
        return value in searched.choices
    return isinstance(value, int | float) and searched.low <= value <= searched.high


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
