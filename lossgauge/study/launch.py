"""The runner: prepare each dataset, do what is not done yet, and let no failure stop the rest."""

from __future__ import annotations

import inspect
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Protocol, runtime_checkable

from lossgauge.backbones import load_backbone
from lossgauge.data import DATASETS, load_dataset
from lossgauge.data.embeddings import load as load_embeddings
from lossgauge.data.features import centered, features
from lossgauge.data.samplers import (
    share_without_positive,
    warning_of_anchors_without_positive,
)
from lossgauge.errors import DataError, LossgaugeError, MissingExtra, PlanError, nearest
from lossgauge.losses import load_loss, loss_class
from lossgauge.study.choices import choices
from lossgauge.study.measure import references
from lossgauge.study.plan import LossPlan, Plan
from lossgauge.study.run import Run, environment, execute, plan_runs, sampler
from lossgauge.study.store import Store
from lossgauge.types import Backbone, FeatureSet, Record

FOLDER = "folder:"
"""A dataset of images of one's own."""

EMBEDDINGS = "embeddings:"
"""A dataset of ready embeddings: they are the features, and no backbone is asked."""


class Outcome(NamedTuple):
    """Counts of runs, and what was left out."""

    done: int
    reused: int
    failed: int
    left_out: list[Record]


@runtime_checkable
class Progress(Protocol):
    """Somebody who watches a study: a terminal's bars, or lines in a log."""

    def features(self, dataset: str, done: int, total: int) -> None:
        """So many images of `total` have features."""

    def left_out(self, dataset: str, reason: str) -> None: ...

    def warning(self, dataset: str, words: str) -> None: ...

    def study(self, runs: int, reused: int) -> None:
        """So many runs are asked for, and so many of them are there already."""

    def start(self, run: Run) -> None: ...

    def epoch(self, run: Run, epoch: int) -> None: ...

    def end(self, run: Run, summary: Record) -> None: ...

    def failed(self, run: Run, error: str) -> None: ...


def run_study(plan: Plan, folder: Path, *, progress: Progress, download: bool = False) -> Outcome:
    """Do what the plan asks for and `folder` lacks. A second call with the same plan goes on where it was.

    A dataset that is not there is left out with its reason; a run that fails is kept as failed, and tried
    again next time. `download` lets datasets be fetched that are not here. Raises LossgaugeError where
    nothing can be done at all.
    """
    backbones = check_plan(plan)
    prepared, left_out = _prepare(plan, backbones, progress, download)
    if not prepared:
        raise DataError(
            "none of the datasets is there: "
            + "; ".join(f"{row['dataset']}: {row['reason']}" for row in left_out)
        )
    titles = [found.dataset for found in prepared]
    if double := {title for title in titles if titles.count(title) > 1}:
        raise PlanError(
            f"two datasets would be called {double.pop()}: rename one of the folders or files"
        )
    runs = [(run, found) for found in prepared for run in plan_runs(plan, found)]
    _check_distinct([run for run, _ in runs])
    store = Store(folder)
    with store.held():
        store.write_study(
            {
                "plan": plan.model_dump(mode="json"),
                "choices": choices(plan),
                "runs": [
                    {**run.columns, "epochs_planned": run.config["epochs"]} for run, _ in runs
                ],
                "left_out": left_out,
                "environment": environment(),
            }
        )
        for found in prepared:
            _set_down(plan, found, store)
        waiting = [(run, found) for run, found in runs if not store.is_done(run.name)]
        progress.study(len(runs), len(runs) - len(waiting))
        with _interrupts() as heed:
            failed = sum(not _attempt(run, found, store, progress, heed) for run, found in waiting)
    return Outcome(len(waiting) - failed, len(runs) - len(waiting), failed, left_out)


def check_plan(plan: Plan) -> dict[str, Backbone]:
    """The backbone of each dataset; raises for a wrong name or setting before anything is written."""
    for name in plan.datasets:
        if name not in DATASETS and not name.startswith((FOLDER, EMBEDDINGS)):
            raise PlanError(
                f"unknown dataset {name!r}{nearest(name, DATASETS)}; your own data is "
                "folder:PATH or embeddings:PATH"
            )
    for name in plan.backbone if isinstance(plan.backbone, dict) else ():
        if name not in plan.datasets:
            raise PlanError(
                f"backbone names a dataset that is not in the study: {name!r}"
                f"{nearest(name, plan.datasets)}"
            )
    for loss in plan.losses:
        _check_loss(loss)
    images = [name for name in plan.datasets if not name.startswith(EMBEDDINGS)]
    loaded = {name: load_backbone(name) for name in {plan.backbone_of(d) for d in images}}
    return {dataset: loaded[plan.backbone_of(dataset)] for dataset in images}


def _check_distinct(runs: list[Run]) -> None:
    """PlanError where two entries of the plan are the same run: a loss and itself with its own default."""
    titles: dict[str, str] = {}
    for run in runs:
        if run.name in titles:
            raise PlanError(
                f"losses {titles[run.name]!r} and {run.loss.title!r} are the same: keep one of them"
            )
        titles[run.name] = run.loss.title


def _check_loss(loss: LossPlan) -> None:
    asked = inspect.signature(loss_class(loss.name)).parameters
    sizes = {key: 2 for key in ("class_count", "embedding_size") if key in asked}
    load_loss(loss.name, **{**sizes, **loss.settings})


def _prepare(
    plan: Plan, backbones: dict[str, Backbone], progress: Progress, download: bool
) -> tuple[list[FeatureSet], list[Record]]:
    prepared, left_out = [], []
    for name in plan.datasets:
        try:
            found = _load(plan, name, backbones, progress, download)
        except (DataError, MissingExtra) as error:
            left_out.append({"dataset": name, "reason": str(error)})
            progress.left_out(name, str(error))
            continue
        if (words := _warning(plan, found)) is not None:
            progress.warning(name, words)
        prepared.append(centered(found) if plan.center_features else found)
    return prepared, left_out


def _load(
    plan: Plan, name: str, backbones: dict[str, Backbone], progress: Progress, download: bool
) -> FeatureSet:
    if name.startswith(EMBEDDINGS):
        return load_embeddings(
            Path(name.removeprefix(EMBEDDINGS)),
            embeddings_name=plan.embeddings_name,
            labels_name=plan.labels_name,
            split=plan.split,
        )
    images = load_dataset(name, download=download, split=plan.split)
    return features(images, backbones[name], progress=partial(progress.features, name))


def _warning(plan: Plan, found: FeatureSet) -> str | None:
    """What to know before training of the batches that this plan draws from a dataset."""
    draw = sampler(plan.model_dump(), found, seed=plan.seeds[0])
    batches = [found.labels[rows] for rows in draw(1)]
    return warning_of_anchors_without_positive(share_without_positive(batches))


def _set_down(plan: Plan, found: FeatureSet, store: Store) -> None:
    """Write what is known of a dataset, unless it is there already: the references cost a search."""
    known = {
        "dataset": found.dataset,
        "backbone": found.backbone,
        "protocol": found.protocol,
        "fingerprint": found.fingerprint,
        "features": dict(found.identity),
        "train_samples": len(found.train),
        "test_samples": len(found.test),
        "embedding_size": plan.embedding_size,
    }
    if not store.has_dataset(found.dataset, known):
        rows = references(found, width=plan.embedding_size)
        store.write_dataset(found.dataset, {**known, "references": rows})


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises at once, as ever, and again where the given function is called.

    One that comes while a compiler's callback runs is printed and lost: the study would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    seen = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.set()
        raise KeyboardInterrupt

    def heed() -> None:
        if seen.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, before)


def _attempt(
    run: Run, found: FeatureSet, store: Store, progress: Progress, heed: Callable[[], None]
) -> bool:
    def on_epoch(epoch: int) -> None:
        heed()
        progress.epoch(run, epoch)

    progress.start(run)
    try:
        summary = execute(run, found, store, on_epoch=on_epoch)
    except (
        Exception
    ) as error:  # any failure of one run, a user's loss included, must not stop the others
        words = (
            str(error) if isinstance(error, LossgaugeError) else f"{type(error).__name__}: {error}"
        )
        # a full disk or memory says nothing against the checkpoint; the run's own trouble does
        store.fail(
            run.name,
            {"error": words, "traceback": traceback.format_exc()},
            keep_checkpoint=isinstance(error, OSError | MemoryError),
        )
        progress.failed(run, words)
        return False
    progress.end(run, summary)
    return True
