"""The runs that a plan asks for on one dataset, each named by the hash of all it depends on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from lossgauge.data.splits import validation_slice
from lossgauge.errors import PlanError
from lossgauge.losses.registry import all_settings
from lossgauge.plan.loss import UNTRAINED, LossPlan
from lossgauge.plan.study import FIRST_TRIAL_SEED, Plan
from lossgauge.results.store import FORMAT
from lossgauge.study.schedule.code_hash import code_of
from lossgauge.types import FeatureSet, Record

SENSITIVE = ("margin", "temperature", "scale")
"""Settings of a loss that `sensitivity` moves."""


class Run(NamedTuple):
    """What a run depends on, and its name: readable, and ending in the hash of all of it."""

    name: str
    loss: LossPlan
    """With fixed settings alone."""
    seed: int
    config: Record
    title: str
    """The loss as a reader is shown it."""
    base: str
    """The loss as the plan names it."""
    variant: str
    """`default`, `tuned`, `sensitivity` or `trial`: why it is run. The same run may be asked for twice."""
    extra_columns: Record
    """Columns of a variant: `trial`; `setting` and `factor`."""

    @property
    def columns(self) -> Record:
        """The columns that tell a run's rows from another's."""
        return {
            "run": self.name,
            "dataset": self.config["dataset"],
            "loss": self.title,
            "base": self.base,
            "variant": self.variant,
            "seed": self.seed,
            **self.extra_columns,
        }

    def as_json(self) -> Record:
        """For another process: `Run.from_json` is the way back."""
        return {**self._asdict(), "loss": self.loss.model_dump(mode="json")}

    @staticmethod
    def from_json(record: Record) -> Run:
        return Run(**{**record, "loss": LossPlan.model_validate(record["loss"])})


def plan_runs(plan: Plan, features: FeatureSet) -> list[Run]:
    """The runs that need no search: the untrained baseline and every loss, as it stands and at each of its
    `sensitivity` settings, with every seed."""
    losses = [LossPlan(name=UNTRAINED), *(loss.at({}) for loss in plan.losses)]
    runs = [make_run(plan, features, loss, seed) for loss in losses for seed in plan.seeds]
    for loss in plan.losses:
        for at, extra in variants(loss, plan.sensitivity):
            runs += [
                make_run(
                    plan,
                    features,
                    at,
                    seed,
                    base=loss.title,
                    variant="sensitivity",
                    extra_columns=extra,
                )
                for seed in plan.seeds
            ]
    return runs


def variants(loss: LossPlan, factors: list[float]) -> Iterator[tuple[LossPlan, Record]]:
    """The loss with its margin, temperature or scale at each multiple of what it is; a setting of 0 has none."""
    settings = all_settings(loss.name, loss.fixed)
    for setting in SENSITIVE:
        base: Any = settings.get(setting)
        # a loss of one's own may take anything by that name
        for factor in factors if type(base) in (int, float) and base else ():
            # 12 digits: 0.2 × 3 is not to be shown as 0.6000000000000001
            value = float(f"{base * factor:.12g}")
            if not math.isfinite(value):
                raise PlanError(f"sensitivity: {base:g} × {factor:g} of {loss.title} is no number")
            yield loss.at({setting: value}), {"setting": setting, "factor": factor}


def trial_run(plan: Plan, features: FeatureSet, loss: LossPlan, number: int, at: LossPlan) -> Run:
    """One trial of a search: on the training side alone, from a seed that no other run has."""
    return make_run(
        plan,
        features,
        at,
        FIRST_TRIAL_SEED,
        base=loss.title,
        variant="trial",
        extra_columns={"trial": number},
    )


def tuned_runs(plan: Plan, features: FeatureSet, loss: LossPlan, at: LossPlan) -> list[Run]:
    """The chosen settings over the seeds of the study, which no trial has seen."""
    title = tuned_title(loss)
    return [
        make_run(plan, features, at, seed, title=title, base=loss.title, variant="tuned")
        for seed in plan.seeds
    ]


def tuned_title(loss: LossPlan) -> str:
    """`triplet(tuned)`, `triplet(reduction=active, tuned)`."""
    fixed = loss.title
    return f"{fixed[:-1]}, tuned)" if fixed.endswith(")") else f"{fixed}(tuned)"


def make_run(
    plan: Plan,
    features: FeatureSet,
    loss: LossPlan,
    seed: int,
    *,
    title: str | None = None,
    base: str | None = None,
    variant: str = "default",
    extra_columns: Record | None = None,
) -> Run:
    """The run of a loss with fixed settings from one seed; `epochs` and the rows follow from the variant."""
    trained, trial = loss.name != UNTRAINED, variant == "trial"
    epochs = plan.tune.epochs or plan.epochs if plan.tune is not None and trial else plan.epochs
    selection = "last" if trial and plan.selection == "oracle" else plan.selection
    sliced = trial or (trained and selection == "best-validation")
    config: Record = {
        "format": FORMAT,
        "lossgauge": version("lossgauge"),
        "dataset": features.dataset,
        "protocol": features.protocol,
        "train_samples": len(features.train),
        "fingerprint": features.fingerprint,
        "backbone": features.backbone,
        "features": dict(features.identity),
        "loss": loss.name,
        "settings": all_settings(loss.name, loss.fixed) if trained else {},
        "code": code_of(loss.name),
        "seed": seed,
        "head": plan.head,
        "hidden_size": plan.hidden_size if plan.head == "mlp" else None,
        "embedding_size": plan.embedding_size,
        "measured_on": "validation" if trial else "test",
        "validation_share": plan.validation_share if sliced else None,
        # the baseline is the same whatever the training
        "epochs": epochs if trained else 0,
        "selection": selection if trained else None,
        "selection_metric": plan.selection_metric if trained and selection != "last" else None,
        "retrieval_every": _retrieval_every(plan, epochs, trial, selection) if trained else None,
        "batch_size": plan.batch_size if trained else None,
        "sampler": plan.sampler if trained else None,
        "samples_per_class": plan.samples_per_class
        if trained and plan.sampler == "m_per_class"
        else None,
        "small_classes": plan.small_classes if trained and plan.sampler == "m_per_class" else None,
        "optimizer": plan.optimizer if trained else None,
        "learning_rate": (loss.learning_rate or plan.learning_rate) if trained else 0.0,
        "weight_decay": plan.weight_decay if trained else 0.0,
        "momentum": plan.momentum if trained and plan.optimizer == "sgd" else 0.0,
        "schedule": plan.schedule if trained else "constant",
        "warmup_epochs": plan.warmup_epochs if trained else 0,
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    readable = re.sub(
        r"[^A-Za-z0-9_.-]+", "-", f"{features.dataset}_{Path(loss.name).name}_{seed}"
    )[-120:]
    shown = loss.title if title is None else title
    return Run(
        f"{readable}_{digest}",
        loss,
        seed,
        config,
        shown,
        base or shown,
        variant,
        extra_columns or {},
    )


def check_distinct(runs: list[Run]) -> None:
    """PlanError where two losses of the plan are the same run: a loss and itself with its own default."""
    titles: dict[str, str] = {}
    for run in runs:
        if run.variant != "default":
            continue
        if run.name in titles:
            raise PlanError(
                f"losses {titles[run.name]!r} and {run.title!r} are the same: keep one of them"
            )
        titles[run.name] = run.title


def as_measured(features: FeatureSet, config: Record) -> FeatureSet:
    """The rows that a run with this config trains on and is measured on."""
    if config["validation_share"] is None:
        return features
    rest, held = (
        features.train.new_tensor(part)
        for part in validation_slice(
            features.labels.numpy(),
            features.train.numpy(),
            features.test.numpy(),
            share=config["validation_share"],
        )
    )
    if config["measured_on"] == "validation":
        return features._replace(train=rest, test=held)
    return features._replace(train=rest, validation=held)


def _retrieval_every(plan: Plan, epochs: int, trial: bool, selection: str) -> int:
    # a trial that is judged by its last epoch needs no other
    return epochs if trial and selection == "last" else plan.retrieval_every
