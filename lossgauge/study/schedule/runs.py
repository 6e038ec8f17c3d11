"""A run of a study: its config, and how it is shown; and the runs that a plan asks for on one dataset."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lossgauge.errors import PlanError
from lossgauge.losses.registry import all_settings
from lossgauge.plan.loss import UNTRAINED, LossPlan
from lossgauge.plan.study import Plan
from lossgauge.study.schedule.run_config import RunConfig
from lossgauge.types import FeatureSet, Record

SENSITIVE = ("margin", "temperature", "scale")
"""Settings of a loss that `sensitivity` moves."""


@dataclass(frozen=True)
class Run:
    """A run that a study asks for. The same run may be asked for twice, as two variants."""

    config: RunConfig
    loss: LossPlan
    """With fixed settings only."""
    title: str
    """The loss as a reader sees it."""
    base: str
    """The title of the loss in the plan that this run belongs to."""
    variant: Literal["default", "tuned", "sensitivity", "trial"]
    extra_columns: Record = field(default_factory=dict)
    """Of a trial its number, `trial`; of a sensitivity run its `setting` and `factor`."""

    @classmethod
    def untrained(cls, plan: Plan, features: FeatureSet, seed: int) -> Run:
        """The initial head, which every loss of this seed starts from."""
        config = RunConfig.untrained(plan, features, seed)
        return cls(config, LossPlan(name=UNTRAINED), UNTRAINED, UNTRAINED, "default")

    @classmethod
    def default(cls, plan: Plan, features: FeatureSet, loss: LossPlan, seed: int) -> Run:
        """The loss with the settings that the plan fixes, and its defaults."""
        config = RunConfig.trained(plan, features, loss, seed)
        return cls(config, loss, loss.title, loss.title, "default")

    @classmethod
    def tuned(
        cls, plan: Plan, features: FeatureSet, loss: LossPlan, seed: int, *, of: LossPlan
    ) -> Run:
        """A loss of the plan, `of`, with the settings that its search has chosen."""
        config = RunConfig.trained(plan, features, loss, seed)
        return cls(config, loss, of.tuned_title, of.title, "tuned")

    @classmethod
    def sensitivity(
        cls,
        plan: Plan,
        features: FeatureSet,
        loss: LossPlan,
        seed: int,
        *,
        of: LossPlan,
        moved: Record,
    ) -> Run:
        """A loss of the plan, `of`, with one setting moved; `moved` is its `setting` and `factor`."""
        config = RunConfig.trained(plan, features, loss, seed)
        return cls(config, loss, loss.title, of.title, "sensitivity", moved)

    @classmethod
    def trial(
        cls, plan: Plan, features: FeatureSet, loss: LossPlan, number: int, *, of: LossPlan
    ) -> Run:
        """One trial of the search of a loss of the plan, `of`."""
        config = RunConfig.trial(plan, features, loss)
        return cls(config, loss, loss.title, of.title, "trial", {"trial": number})

    @cached_property
    def name(self) -> str:
        """The run's folder: readable, and ending in the config's id."""
        config = self.config
        words = f"{config.dataset}_{Path(config.loss).name}_{config.seed}"
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', words)[-120:]}_{config.id}"

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def columns(self) -> Record:
        """The columns that identify the run in every table."""
        return {
            "run": self.name,
            "dataset": self.config.dataset,
            "loss": self.title,
            "base": self.base,
            "variant": self.variant,
            "seed": self.seed,
            **self.extra_columns,
        }

    def as_json(self) -> Record:
        """For another process: `Run.from_json` is the way back."""
        return {
            "config": self.config.as_json(),
            "loss": self.loss.model_dump(mode="json"),
            "title": self.title,
            "base": self.base,
            "variant": self.variant,
            "extra_columns": self.extra_columns,
        }

    @classmethod
    def from_json(cls, record: Record) -> Run:
        config = RunConfig.from_json(record["config"])
        loss = LossPlan.model_validate(record["loss"])
        return cls(**{**record, "config": config, "loss": loss})


def plan_runs(plan: Plan, features: FeatureSet) -> list[Run]:
    """The runs that need no search: the untrained baseline, every loss by default, and its `sensitivity` settings;
    each with every seed."""
    runs = [Run.untrained(plan, features, seed) for seed in plan.seeds]
    for loss in plan.losses:
        runs += [Run.default(plan, features, loss.at({}), seed) for seed in plan.seeds]
    for loss in plan.losses:
        for at, moved in variants(loss, plan.sensitivity):
            runs += [
                Run.sensitivity(plan, features, at, seed, of=loss, moved=moved)
                for seed in plan.seeds
            ]
    return runs


def variants(loss: LossPlan, factors: list[float]) -> Iterator[tuple[LossPlan, Record]]:
    """The loss with its margin, temperature or scale at each multiple of its value; a setting of 0 has no multiples.

    Beside each, its `setting` and `factor`. Raises PlanError if a multiple is not finite.
    """
    settings = all_settings(loss.name, loss.fixed)
    for setting in SENSITIVE:
        base: Any = settings.get(setting)
        # a user's loss may take anything by that name
        for factor in factors if type(base) in (int, float) and base else ():
            # 12 digits: 0.2 × 3 must not be shown as 0.6000000000000001
            value = float(f"{base * factor:.12g}")
            if not math.isfinite(value):
                raise PlanError(
                    f"sensitivity: {base:g} × {factor:g} for {setting} of {loss.title} is not finite; "
                    "give a smaller factor"
                )
            yield loss.at({setting: value}), {"setting": setting, "factor": factor}


def check_distinct(runs: list[Run]) -> None:
    """PlanError if two losses of the plan are the same run: a loss, and the same loss with its default written out."""
    titles: dict[str, str] = {}
    for run in runs:
        if run.variant != "default":
            continue
        if run.name in titles:
            raise PlanError(
                f"losses {titles[run.name]!r} and {run.title!r} are the same loss with the same settings; keep one of them"
            )
        titles[run.name] = run.title
