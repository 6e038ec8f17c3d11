"""The number of runs, the time and the disk space of a study, before its first run. Nothing is written."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from lossgauge.data.estimate import Estimate, estimate
from lossgauge.data.features import features as cached_features
from lossgauge.data.features import is_cached
from lossgauge.diagnostics.probe import Probe
from lossgauge.machine import torch_threads
from lossgauge.plan.study import Plan
from lossgauge.results.columns import PAIR_RETRIEVAL, RETRIEVAL
from lossgauge.results.writer import Store
from lossgauge.stats.number_format import counted
from lossgauge.stats.planning import ASSUMED_NDCG, assumed, detectable_difference
from lossgauge.study.engines import DEFAULT, Resources, check_resources
from lossgauge.study.job_count import default_jobs, with_jobs
from lossgauge.study.prepare import prepare
from lossgauge.study.progress import Progress
from lossgauge.study.run.measure import measure
from lossgauge.study.run.setup import set_up
from lossgauge.study.schedule.run_config import train_count
from lossgauge.study.schedule.run_queue import RunQueue, tuned_runs
from lossgauge.study.schedule.runs import Run, check_distinct
from lossgauge.training import train_epoch, train_pairs_epoch
from lossgauge.types import Backbone, FeatureSet, ImageSet, Step

STEPS = 12
"""Steps of each loss that are timed."""

STEP_BYTES, EPOCH_BYTES, CLASS_BYTES, RUN_BYTES, UNTRAINED_BYTES = 140, 430, 34, 34_000, 18_000
QUERY_BYTES = 39
"""Bytes that a run writes, measured on finished studies; right within a few tenths."""


class Cost(NamedTuple):
    """Time and disk space of one run."""

    seconds: float
    bytes: int


class Detectable(NamedTuple):
    """The difference between two losses that a planned study finds with a chance of 80 %, in the measure that ranks them."""

    dataset: str
    seeds: int
    queries: int
    difference: float
    measure: str = "R@1"
    """Its title."""


class Forecast(NamedTuple):
    """Runs, time and disk space of a study."""

    grid: list[str]
    """One line for each dataset."""
    runs: int
    there: int
    """Runs that are finished already."""
    seconds: float
    """Of the runs that are not finished, one after the other."""
    bytes: int
    jobs: int
    """Runs at a time."""
    idle_cores: int
    """Cores that a study of so few runs leaves idle."""
    detectable: list[Detectable]
    """For each dataset, unless the study has a single loss."""


def forecast(
    plan: Plan,
    folder: Path,
    *,
    progress: Progress,
    download: bool = False,
    resources: Resources = DEFAULT,
) -> Forecast:
    """Time a few steps and one measurement of each loss, and multiply. Takes seconds.

    Features that are not in the cache are not extracted: a few images show what that will take. Raises the errors
    with which `run_study` would refuse to begin.
    """
    check_resources(resources)
    with torch_threads(resources.threads):
        return _forecast(plan, folder, progress, download, resources)


def _forecast(
    plan: Plan, folder: Path, progress: Progress, download: bool, resources: Resources
) -> Forecast:
    missing: dict[str, Estimate] = {}

    def estimated(name: str, images: ImageSet, backbone: Backbone) -> FeatureSet:
        if is_cached(images, backbone):
            return cached_features(images, backbone)
        missing[images.name] = estimate(images, backbone)
        return missing[images.name].features

    prepared, _ = prepare(plan, progress=progress, download=download, extract=estimated)
    queue, store = RunQueue(plan, prepared), Store(folder)
    check_distinct(queue.given)
    store.check_format()
    features = {of.dataset: of for of in prepared}
    costs: dict[str, Cost] = {}

    def cost(run: Run) -> Cost:
        dataset = run.config.dataset
        kind = f"{dataset} {run.loss.name} {run.variant == 'trial'}"
        if kind not in costs:
            try:
                costs[kind] = cost_of(run, features[dataset])
            except Exception as error:  # as in a study: a loss that fails does not stop the others
                message = f"{run.title} fails in its first steps, so the estimate does not include its time"
                progress.warning(dataset, f"{message}: {type(error).__name__}: {error}")
                costs[kind] = Cost(0.0, 0)
        return costs[kind]

    finished: set[str] = set()
    while possible := queue.next_runs():
        # finished trials decide which trials come next
        for run in possible:
            if run.name in finished or store.is_done(run.name):
                finished.add(run.name)
                queue.ended(run.name, store.summary(run.name))
    asked = {run.name: run for run in queue.runs}  # the same run may be asked for twice
    ahead = [cost(run) for run in asked.values() if run.name not in finished]
    for search in queue.searches:
        if not search.is_over:
            ahead += [cost(search.asked[0])] * (search.trials - len(search.asked))
            ahead += [cost(run) for run in tuned_runs(plan, search, search.loss.at({}))]
    jobs = with_jobs(resources, queue, store).jobs or 1
    return Forecast(
        grid=[_line(plan, of, queue.given, missing.get(of.dataset)) for of in prepared],
        runs=queue.expected - (len(queue.runs) - len(asked)),
        there=len(finished),
        seconds=sum(one.seconds for one in ahead) + sum(e.seconds for e in missing.values()),
        bytes=sum(one.bytes for one in ahead) + sum(e.bytes for e in missing.values()),
        jobs=jobs,
        idle_cores=max(0, default_jobs(resources) - len(ahead)) if ahead else 0,
        detectable=[_detectable(plan, of) for of in prepared if len(plan.losses) > 1],
    )


def _detectable(plan: Plan, features: FeatureSet) -> Detectable:
    """As one of the comparisons of the best loss with the others, with the variances that `assumed` states."""
    queries = len(features.test)
    column, parts = RETRIEVAL[0], assumed(len(plan.losses))
    if features.pairs is not None:
        column, parts = PAIR_RETRIEVAL[0], assumed(len(plan.losses), ASSUMED_NDCG)
    seen, asked = (set(features.labels[side].tolist()) for side in (features.train, features.test))
    if not asked <= seen:
        parts = parts._replace(query_degrees=(len(asked) - 1) / queries)
    difference = detectable_difference(parts, len(plan.seeds), queries, family=len(plan.losses) - 1)
    return Detectable(features.dataset, len(plan.seeds), queries, difference, column.title)


def _line(plan: Plan, features: FeatureSet, runs: list[Run], missing: Estimate | None) -> str:
    kinds = Counter(run.variant for run in runs if run.config.dataset == features.dataset)
    parts = [
        f"{counted(len(plan.losses), 'loss')} and untrained × {counted(len(plan.seeds), 'seed')}"
    ]
    if kinds["sensitivity"]:
        parts.append(f"{kinds['sensitivity'] // len(plan.seeds)} further settings × the same seeds")
    if plan.tune is not None:
        parts.append(f"{len(plan.losses)} losses × {plan.tune.trials} trials, then the same seeds")
    if missing is not None:
        parts.append(
            f"first its features, about {missing.seconds:,.0f} s and {missing.bytes / 1e6:,.1f} MB in the cache"
        )
    return (
        f"{features.dataset}: {train_count(features):,} training and {len(features.test):,} test {'rows' if features.pairs is None else 'queries'} of "
        f"{features.features.shape[1]} features, {features.protocol} split: {'; '.join(parts)}"
    )


def cost_of(run: Run, features: FeatureSet) -> Cost:
    """Time a few steps and one measurement of a run, and multiply. The loss may raise whatever it raises in a study."""
    config, setup = run.config, set_up(run, features)
    head, rows, epochs = setup.training.head, setup.features, config.epochs
    began = time.perf_counter()
    measure(head, rows, with_retrieval=True)
    with_retrieval = time.perf_counter() - began
    began = time.perf_counter()
    measure(head, rows, with_retrieval=False)
    without = time.perf_counter() - began
    classes = rows.labels[torch.cat((rows.train, rows.test))].unique()
    size = RUN_BYTES if epochs else UNTRAINED_BYTES
    size += EPOCH_BYTES * epochs + CLASS_BYTES * 2 * len(classes)
    if config.measured_on == "test":  # a trial keeps none of these
        kept = 1 + sum(map(config.keeps_head, range(epochs + 1)))
        head_bytes = sum(tensor.nbytes for tensor in head.state_dict().values())
        size += QUERY_BYTES * len(rows.test) + head_bytes * kept
    if not epochs:
        return Cost(with_retrieval, size)
    batches: list[Any] = setup.batches(1) if rows.pairs is None else setup.pair_batches(1)
    marks: list[float] = []
    probe = Probe()

    def on_step(step: Step) -> None:
        probe(step)
        marks.append(time.perf_counter())

    some = (batches * STEPS)[:STEPS]
    if rows.pairs is None:
        train_epoch(setup.training, rows.features, setup.class_numbers, some, on_step=on_step)
    else:
        train_pairs_epoch(
            setup.training, rows.features, some, documents=setup.documents, on_step=on_step
        )
    step = median(b - a for a, b in pairwise(marks))
    seconds = epochs * len(batches) * step
    for epoch in range(epochs + 1):
        if config.measures_geometry(epoch):
            seconds += with_retrieval if config.measures_retrieval(epoch) else without
    if config.selects_by is not None:
        seconds += without  # once more for the classes, unless the last epoch is selected
    return Cost(seconds, size + STEP_BYTES * epochs * len(batches))
