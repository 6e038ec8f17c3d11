"""What a study would come to, before its first run: the grid, the number of runs, time and disk. Nothing is written."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from lossgauge.data.estimate import Estimate, estimate
from lossgauge.data.features import features as cached_features
from lossgauge.data.features import is_cached
from lossgauge.diagnostics.probe import Probe
from lossgauge.machine import torch_threads
from lossgauge.plan.study import Plan
from lossgauge.results.writer import Store
from lossgauge.study.engines import DEFAULT, Resources, check_resources
from lossgauge.study.job_count import default_jobs, with_jobs
from lossgauge.study.prepare import prepare
from lossgauge.study.progress import Progress
from lossgauge.study.run.execute import sampler, start_run
from lossgauge.study.run.measure import measure
from lossgauge.study.schedule.run_queue import Ledger
from lossgauge.study.schedule.runs import Run, as_measured, check_distinct, tuned_runs
from lossgauge.training import train_epoch
from lossgauge.types import Backbone, FeatureSet, ImageSet, Step

STEPS = 12
"""Steps of each loss that are timed."""

STEP_BYTES, EPOCH_BYTES, CLASS_BYTES, RUN_BYTES, UNTRAINED_BYTES = 140, 430, 34, 34_000, 18_000
"""What a run leaves: measured on finished studies, a few tenths off either way."""


class Cost(NamedTuple):
    """Of one run."""

    seconds: float
    bytes: int


class Forecast(NamedTuple):
    """What a study would come to."""

    grid: list[str]
    """A line a dataset."""
    runs: int
    there: int
    """Runs that are done already."""
    seconds: float
    """Of what is not done yet, one run after the other."""
    bytes: int
    jobs: int
    """Runs at a time."""
    idle_cores: int
    """Cores that a study of so few runs leaves idle."""


def forecast(
    plan: Plan,
    folder: Path,
    *,
    progress: Progress,
    download: bool = False,
    resources: Resources = DEFAULT,
) -> Forecast:
    """Time a few steps and one measurement of each loss, and multiply. Takes seconds.

    Features that are not in the cache are not extracted: a few images tell what that would take. Raises as
    `run_study` does where it would not begin.
    """
    check_resources(resources)
    with torch_threads(resources.threads):
        return _forecast(plan, folder, progress, download, resources)


def _forecast(
    plan: Plan, folder: Path, progress: Progress, download: bool, resources: Resources
) -> Forecast:
    missing: dict[str, Estimate] = {}

    def sketch(name: str, images: ImageSet, backbone: Backbone) -> FeatureSet:
        if is_cached(images, backbone):
            return cached_features(images, backbone)
        missing[images.name] = estimate(images, backbone)
        return missing[images.name].features

    prepared, _ = prepare(plan, progress=progress, download=download, extract=sketch)
    ledger, store = Ledger(plan, prepared), Store(folder)
    check_distinct(ledger.given)
    store.check_format()
    features = {found.dataset: found for found in prepared}
    costs: dict[str, Cost] = {}

    def cost(run: Run) -> Cost:
        dataset = run.config["dataset"]
        kind = f"{dataset} {run.loss.name} {run.variant == 'trial'}"
        if kind not in costs:
            try:
                costs[kind] = _cost(run, features[dataset])
            except Exception as error:  # as in a study: a loss that fails does not stop the others
                words = f"{run.title} fails in its first steps, so its time is not in the sum"
                progress.warning(dataset, f"{words}: {type(error).__name__}: {error}")
                costs[kind] = Cost(0.0, 0)
        return costs[kind]

    there: set[str] = set()
    while fresh := ledger.next_runs():
        # what is done tells which trials come next
        for run in fresh:
            if run.name in there or store.is_done(run.name):
                there.add(run.name)
                ledger.ended(run.name, store.summary(run.name))
    asked = {run.name: run for run in ledger.runs}  # the same run may be asked for twice
    ahead = [cost(run) for run in asked.values() if run.name not in there]
    for search in ledger.searches:
        if not search.is_over:
            ahead += [cost(search.asked[0])] * (search.trials - len(search.asked))
            tuned = tuned_runs(plan, search.features, search.loss, search.loss.at({}))
            ahead += [cost(run) for run in tuned]
    jobs = with_jobs(resources, ledger, store).jobs or 1
    return Forecast(
        grid=[_line(plan, found, ledger.given, missing.get(found.dataset)) for found in prepared],
        runs=ledger.expected - (len(ledger.runs) - len(asked)),
        there=len(there),
        seconds=sum(one.seconds for one in ahead) + sum(e.seconds for e in missing.values()),
        bytes=sum(one.bytes for one in ahead) + sum(e.bytes for e in missing.values()),
        jobs=jobs,
        idle_cores=max(0, default_jobs(resources) - len(ahead)) if ahead else 0,
    )


def _line(plan: Plan, found: FeatureSet, runs: list[Run], missing: Estimate | None) -> str:
    of = [run for run in runs if run.config["dataset"] == found.dataset]
    kinds = Counter(run.variant for run in of if run.base != "untrained")
    parts = [f"{len(plan.losses)} losses and untrained × {len(plan.seeds)} seeds"]
    if kinds["sensitivity"]:
        parts.append(f"{kinds['sensitivity'] // len(plan.seeds)} further settings × as many seeds")
    if plan.tune is not None:
        parts.append(f"{len(plan.losses)} losses × {plan.tune.trials} trials, then as many seeds")
    if missing is not None:
        parts.append(
            f"before that its features, about {missing.seconds:,.0f} s and {missing.bytes / 1e6:,.1f} MB of the cache"
        )
    return (
        f"{found.dataset}: {len(found.train):,} training and {len(found.test):,} test rows of "
        f"{found.features.shape[1]} features, {found.protocol} split: {'; '.join(parts)}"
    )


def _cost(run: Run, found: FeatureSet) -> Cost:
    features, config = as_measured(found, run.config), run.config
    epochs = config["epochs"]
    training = start_run(run, features)
    began = time.perf_counter()
    measure(training.head, features, with_retrieval=True)
    with_retrieval = time.perf_counter() - began
    began = time.perf_counter()
    measure(training.head, features, with_retrieval=False)
    without = time.perf_counter() - began
    classes = features.labels[torch.cat((features.train, features.test))].unique()
    size = RUN_BYTES if epochs else UNTRAINED_BYTES
    size += EPOCH_BYTES * epochs + CLASS_BYTES * 2 * len(classes)
    if not epochs:
        return Cost(with_retrieval + without, size)
    batches = sampler(config, features, seed=run.seed)(1)
    numbers = torch.searchsorted(
        features.labels[features.train].unique(), features.labels.contiguous()
    )
    marks: list[float] = []
    probe = Probe()

    def on_step(step: Step) -> None:
        probe(step)
        marks.append(time.perf_counter())

    some = (batches * STEPS)[:STEPS]
    train_epoch(training, features.features, numbers, some, on_step=on_step)
    step = median(b - a for a, b in pairwise(marks))
    # before training, every so many epochs, and after the last
    searched = 1 + math.ceil(epochs / config["retrieval_every"])
    measured = searched if config["measured_on"] == "validation" else 1 + epochs
    seconds = epochs * len(batches) * step + searched * (with_retrieval - without)
    seconds += (measured + 1) * without  # once more at the end, class by class
    return Cost(seconds, size + STEP_BYTES * epochs * len(batches))
