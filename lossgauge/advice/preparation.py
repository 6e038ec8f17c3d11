"""What comes before the first run: features, or a sample of them, and the search that fits into the time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lossgauge.advice.candidates import Batching, all_candidates, batchings, pair_batchings
from lossgauge.advice.clock import PLANNED, Clock
from lossgauge.advice.halving import epochs_of_rungs
from lossgauge.advice.question import Fit, Question, as_dataset, base_plan, fit_to, training_labels
from lossgauge.advice.schedule import Cost, Schedule, choose, rows_that_fit, rows_to_extract
from lossgauge.data.class_balanced import sampled_features
from lossgauge.data.estimate import Estimate, estimate
from lossgauge.data.features import features as cached_features
from lossgauge.data.features import is_cached
from lossgauge.data.splits import MORE_DATA
from lossgauge.errors import CacheError, DataError, InputError
from lossgauge.files import read_json, write_json
from lossgauge.machine import torch_threads
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.study import Plan
from lossgauge.study.engines import DEFAULT
from lossgauge.study.examples.row_source import ImageRows
from lossgauge.study.forecast import cost_of
from lossgauge.study.job_count import default_jobs
from lossgauge.study.prepare import NONE_USABLE, Extract, prepare
from lossgauge.study.progress import Progress
from lossgauge.study.schedule.runs import Run
from lossgauge.types import Backbone, FeatureSet, ImageSet, Record

TIMED_ROWS, TIMED_EPOCHS = 8_000, 10
"""Rows on which epochs are timed, at most; and the epochs of the run that is estimated."""

RUN_SECONDS = 0.15
"""Of a run without its epochs: set-up and files."""


class Prepared(NamedTuple):
    """The data of a question, and the search that was chosen for it."""

    features: FeatureSet
    plan: Plan
    """Every loss with its defaults."""
    batchings: list[Batching]
    schedule: Schedule
    rows: int
    """Of the whole dataset."""
    left_out: list[Record]
    extraction_seconds: float
    """Estimated; 0 if the features are in the cache, or are there."""
    images: ImageRows | None = None
    """The images or texts of the rows; None of vectors."""

    @property
    def candidates(self) -> list[LossPlan]:
        return all_candidates(self.plan, self.batchings, self.schedule.candidates)

    @property
    def sampled(self) -> bool:
        """Whether a sample was drawn: without one, there may still be fewer rows, of images that cannot be read."""
        return self.plan.sample is not None and len(self.features.labels) < self.rows


def prepare_question(
    question: Question,
    folder: Path | None,
    *,
    clock: Clock,
    progress: Progress,
    download: bool = False,
    jobs: int | None = None,
    dry_run: bool = False,
) -> Prepared:
    """The features of a question, and the largest search that fits into its time.

    What was chosen is kept in `folder`, so that the same question there continues with the same search. With `dry_run`
    nothing is extracted or written, and features that are not in the cache are random.
    """
    if folder is not None:
        check_folder(folder, question)
    cores = jobs or default_jobs(DEFAULT)
    kept = None if folder is None else _kept(folder, question)
    with torch_threads(1):
        if kept is None:
            kept, rows, seconds = _choose_sample(question, clock, progress, download, cores)
        else:
            rows, seconds = kept["rows"], 0.0
        sample = kept["sample"]
        plan = base_plan(question, epochs=1, sample=sample)
        missing: dict[str, Estimate] = {}
        images: list[ImageRows] = []
        (features,), left_out = _load(
            plan,
            progress=progress,
            download=download,
            jobs=jobs,
            extract=_estimating(missing) if dry_run else None,
            on_images=lambda *of: images.append(ImageRows(*of)),
        )
        fit = fit_to(features)
        plan = base_plan(question, epochs=1, sample=sample, fit=fit)
        tried = _batchings(features, fit)
        if "candidates" not in kept:
            cost = cost_of_losses(plan, features, tried)
            schedule = choose(cost, PLANNED * clock.left, cores)
        else:
            schedule = Schedule(
                kept["candidates"], epochs_of_rungs(kept["epochs"]), kept["seconds"]
            )
        plan = base_plan(question, epochs=schedule.epochs[-1], sample=sample, fit=fit)
    if folder is not None and not dry_run:
        _keep(folder, question, schedule, sample, rows)
    source = images[0] if images else None
    return Prepared(features, plan, tried, schedule, rows, left_out, seconds, source)


def cost_of_losses(
    plan: Plan, features: FeatureSet, tried: list[Batching], *, rows: int = TIMED_ROWS
) -> Cost:
    """Seconds of an epoch of each loss, timed on at most so many rows, as if the time were proportional to the rows."""
    timed = features if features.pairs is not None else sampled_features(features, rows)
    larger = len(features.labels) / len(timed.labels)
    plan = plan.model_copy(update={"epochs": TIMED_EPOCHS})
    epochs = {}
    for loss in plan.losses:
        one = all_candidates(plan.model_copy(update={"losses": [loss]}), tried, 1)[0]
        run = Run.trial(plan, timed, one, 0, of=loss)
        epochs[loss.name] = larger * cost_of(run, timed).seconds / TIMED_EPOCHS
    return Cost(RUN_SECONDS, epochs)


def _batchings(features: FeatureSet, fit: Fit) -> list[Batching]:
    labels = training_labels(features, fit.validation_share)
    return batchings(labels) if features.pairs is None else pair_batchings(len(labels))


def _choose_sample(
    question: Question, clock: Clock, progress: Progress, download: bool, cores: int
) -> tuple[Record, int, float]:
    """The sample that the time allows (None: all rows), the rows of the dataset, and the estimated extraction."""
    missing: dict[str, Estimate] = {}
    plan = base_plan(question, epochs=1)
    (features,), _ = _load(
        plan, progress=Progress(), download=download, extract=_estimating(missing)
    )
    rows = len(features.labels)
    extraction = sum(one.seconds for one in missing.values()) / cores
    fit = fit_to(features)
    plan = base_plan(question, epochs=1, fit=fit)
    tried = _batchings(features, fit)
    if features.pairs is not None:
        # every query is ranked among all documents, so fewer queries save little
        return {"sample": None}, rows, extraction
    cost = cost_of_losses(plan, features, tried)
    few = rows_to_extract(rows, extraction, clock.left)
    spent = extraction * (1.0 if few is None else few / rows)
    affordable = rows_that_fit(cost, rows, PLANNED * (clock.left - spent), cores)
    if affordable is not None and affordable < TIMED_ROWS:
        # ranking takes more time for each row if there are many: timed again at about the size that is used
        cost = cost_of_losses(plan, features, tried, rows=affordable)
        affordable = rows_that_fit(cost, rows, PLANNED * (clock.left - spent), cores)
    sample = min((each for each in (few, affordable) if each is not None), default=None)
    return {"sample": sample}, rows, extraction * (sample or rows) / rows


def _load(
    plan: Plan,
    *,
    progress: Progress,
    download: bool,
    jobs: int | None = None,
    extract: Extract | None = None,
    on_images: Callable[[ImageSet, Backbone], None] = lambda *_: None,
) -> tuple[list[FeatureSet], list[Record]]:
    """As `prepare`, with errors that speak of the data and not of a study."""
    try:
        return prepare(
            plan,
            progress=progress,
            download=download,
            jobs=jobs,
            extract=extract,
            on_images=on_images,
            settings_are_final=False,
        )
    except DataError as error:
        words = str(error).removeprefix(NONE_USABLE)
        raise DataError(words.replace(MORE_DATA, "more data is needed")) from None


def _estimating(missing: dict[str, Estimate]) -> Extract:
    """For `prepare`: features from the cache, else random ones, with their estimate in `missing`."""

    def estimated(name: str, images: ImageSet, backbone: Backbone) -> FeatureSet:
        if is_cached(images, backbone):
            return cached_features(images, backbone)
        missing[name] = estimate(images, backbone)
        return missing[name].features

    return estimated


def _kept(folder: Path, question: Question) -> Record | None:
    """What was chosen for the same question in this folder; None if nothing was, or if its file is damaged."""
    path = folder / "schedule.json"
    if not path.is_file():
        return None
    try:
        record = read_json(path)
    except CacheError:
        return None
    asked = record.get("question")
    # an answer of an older version lacks the newer parts of a question
    known = {**question._field_defaults, **asked} if isinstance(asked, dict) else None
    return record if known == question._asdict() else None


def check_folder(folder: Path, question: Question) -> None:
    """InputError if the folder has the answer about other data, or for another goal, which would be overwritten."""
    try:
        asked = read_json(folder / "schedule.json")["question"]
        data, goal = asked["data"], asked.get("goal", question.goal)
    except (CacheError, OSError, KeyError, TypeError, AttributeError):
        return
    if isinstance(data, str) and _place(data) != _place(question.data):
        raise InputError(
            f"{folder} has the answer about {data}, not about {question.data}; give another folder with --out"
        )
    usual = Question("")
    columns = [asked.get(key, getattr(usual, key)) for key in ("embeddings_name", "labels_name")]
    if columns != [question.embeddings_name, question.labels_name]:
        raise InputError(
            f"{folder} has the answer about {' and '.join(map(str, columns))} of {data}, not about {question.embeddings_name} and "
            f"{question.labels_name}; give another folder with --out"
        )
    if goal != question.goal:
        raise InputError(
            f"{folder} has the answer for the goal {goal}, not for {question.goal}; give another folder with --out"
        )


def _place(data: str) -> tuple[str, str]:
    """The kind of data, and where they lie."""
    kind, _, path = as_dataset(data).partition(":")
    return kind, os.path.abspath(path) if path else ""


def _keep(
    folder: Path, question: Question, schedule: Schedule, sample: int | None, rows: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "question": question._asdict(),
        "sample": sample,
        "rows": rows,
        "candidates": schedule.candidates,
        "epochs": schedule.epochs[-1],
        "seconds": schedule.seconds,
    }
    write_json(folder / "schedule.json", record)
