"""`lossgauge advise` from the question to the answer: search, seeds for the finalists, learning curve, page.

    OUT/schedule.json   what was chosen: the sample, the candidates, the epochs
    OUT/search/         a study's folder with the trials
    OUT/study/          the study of the finalists, with its report
    OUT/curve/          the winner on parts of the training side
    OUT/winner-NAME.yaml  a study of the winner alone
    OUT/advice.json     the answer

Everything is made of runs in studies' folders, so the same command continues after any interruption.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lossgauge.advice.clock import CURVE, SEARCH, Clock, Deadline, OutOfTime
from lossgauge.advice.halving import Score
from lossgauge.advice.learning_curve import IN_WORDS, SHARES, Curve, Point, with_less_training
from lossgauge.advice.preparation import Prepared, prepare_question
from lossgauge.advice.question import (
    Question,
    check_question,
    has_unseen_classes,
    slice_labels,
    training_labels,
)
from lossgauge.advice.record import Advice, WinningRun
from lossgauge.advice.schedule import FINALISTS, MORE_SEEDS, SEEDS
from lossgauge.advice.search import HalvingSearch
from lossgauge.advice.verdict import other_goals, training, verdict
from lossgauge.advice.words import RULES, Outcome, asked, sentences, settings_in_words
from lossgauge.errors import DataError, InputError, StudyError
from lossgauge.files import atomic_file, write_json
from lossgauge.plan.loss import BATCH_SIZE, LEARNING_RATE, SAMPLER, TRAINING, LossPlan
from lossgauge.plan.study import Plan
from lossgauge.report.output import write_page
from lossgauge.report.text.centering import centering_sentence
from lossgauge.results.columns import COLUMNS
from lossgauge.results.layout import Layout
from lossgauge.results.query_changes import read_query_changes
from lossgauge.results.reader import read_study
from lossgauge.results.view import Loss, StudyView
from lossgauge.results.writer import Store
from lossgauge.stats.intervals import interval
from lossgauge.stats.number_format import counted, shown
from lossgauge.study.engines import Resources
from lossgauge.study.examples.changed_queries import write_query_changes
from lossgauge.study.examples.row_source import row_source
from lossgauge.study.progress import Progress, ProgressGroup
from lossgauge.study.runner import do_runs, run_study
from lossgauge.study.schedule.run_queue import RunQueue
from lossgauge.study.schedule.runs import Run
from lossgauge.types import FeatureSet, Record

Shown = Callable[[], Progress]
"""A progress display for each phase."""


class BestSoFar(Progress):
    """Keeps the best trial of a search in words, for the display and for the line after Ctrl-C; from what an earlier call
    left on, too."""

    def __init__(
        self,
        search: HalvingSearch,
        prepared: Prepared,
        display: Progress,
        keep: Callable[[str], None],
    ) -> None:
        self._search, self._plan, self._display, self._keep = search, prepared.plan, display, keep
        self._rows = len(slice_labels(prepared.features, self._plan.validation_share))
        self._noun = "row" if prepared.features.pairs is None else "query"
        self._best: Score | None = None

    def start(self, run: Run) -> None:
        self.look()

    def end(self, run: Run, summary: Record) -> None:
        self.look()

    def look(self) -> None:
        """Say the best one if it is new."""
        best = self._search.best
        if best is None or best.value is None or best == self._best:
            return
        self._best = best
        loss = self._search.candidates[best.candidate]
        title = COLUMNS[self._plan.selection_metric].title
        settings = settings_in_words(loss.settings, self._plan.samples_per_class)
        words = (
            f"{loss.name} ({settings}), {title} {shown(best.value, 'percent')} on the validation slice of "
            f"{counted(self._rows, self._noun)}"
        )
        self._keep(words)
        self._display.best(words)


def advise(
    question: Question,
    folder: Path,
    *,
    show: Shown = Progress,
    download: bool = False,
    jobs: int | None = None,
    began: float | None = None,
    keep: Callable[[str], None] = lambda words: None,
) -> Advice:
    """The answer, within the minutes of the question from `began` (a value of `time.monotonic`) on.

    `keep` gets the best result so far, in words, each time that it changes. Raises InputError for a wrong question,
    DataError for data that cannot be compared on, StudyError if not even one trial ended in the time.
    """
    check_question(question)
    clock = Clock(time.monotonic() if began is None else began, question.minutes)
    with show() as progress:
        prepared = prepare_question(
            question, folder, clock=clock, progress=progress, download=download, jobs=jobs
        )
    search, in_time = _search(question, prepared, folder, clock, show, jobs, keep)
    standing = search.standing()
    if not standing:
        raise StudyError(
            f"no trial ended within {question.minutes:g} minutes, so there is no answer; run the same command again, or "
            "give more minutes"
        )
    plan = finalists(prepared, search, question)
    # seed by seed: if the time ends, all losses have the same seeds
    ended = all(
        _finals(plan, folder, clock, show, download, jobs, seeds) for seeds in range(1, SEEDS + 1)
    )
    _check_finalists(prepared, search, question, folder)
    curve = _learning_curve(plan, prepared, question, folder, clock, jobs)
    _more_seeds(plan, folder, clock, show, download, jobs)
    return _answer(
        question, prepared, search, standing, folder, clock, curve, complete=in_time and ended
    )


def finalists(prepared: Prepared, search: HalvingSearch, question: Question) -> Plan:
    """The study of the best candidates of the best losses, and of the better loss of the paper's rule of thumb."""
    standing = search.standing()
    chosen: list[Score] = list(standing[:FINALISTS])
    names, _ = RULES[question.goal]
    if not question.of_pairs and not any(one.loss in names for one in chosen):
        chosen += [one for one in standing if one.loss in names][:1]
    losses = [search.candidates[one.candidate] for one in chosen]
    return prepared.plan.model_copy(update={"losses": losses, "seeds": list(range(SEEDS))})


def _search(
    question: Question,
    prepared: Prepared,
    folder: Path,
    clock: Clock,
    show: Shown,
    jobs: int | None,
    keep: Callable[[str], None],
) -> tuple[HalvingSearch, bool]:
    """The search, as far as its time allows; and whether it came to its end."""
    search = HalvingSearch(
        prepared.plan, prepared.features, prepared.candidates, prepared.schedule.epochs
    )
    deadline = clock.after(SEARCH)
    with show() as display:
        best = BestSoFar(search, prepared, display, keep)
        watching = [display, best, Deadline(deadline)]
        try:
            do_runs(
                search,
                folder / "search",
                plan=prepared.plan,
                prepared=[prepared.features],
                left_out=prepared.left_out,
                progress=ProgressGroup(watching),
                resources=Resources(jobs=jobs),
            )
        except OutOfTime:
            return search, False
        finally:
            best.look()  # if all trials were there, none started
    return search, len(search.scores(len(prepared.schedule.epochs) - 1)) > 0


def _finals(
    plan: Plan,
    folder: Path,
    clock: Clock,
    show: Shown,
    download: bool,
    jobs: int | None,
    seeds: int,
) -> bool:
    """The finalists with this many seeds; whether all of them ended in time."""
    plan = plan.model_copy(update={"seeds": list(range(seeds))})
    with show() as display:
        try:
            run_study(
                plan,
                folder / "study",
                progress=ProgressGroup([display, Deadline(clock.end)]),
                download=download,
                resources=Resources(jobs=jobs),
            )
        except OutOfTime:
            return False
    return True


def _check_finalists(
    prepared: Prepared, search: HalvingSearch, question: Question, folder: Path
) -> None:
    """StudyError, with the best on the validation slice, if no finalist has a result."""
    dataset = prepared.features.dataset
    started = (folder / "study" / "study.json").is_file()
    if started and verdict(read_study(folder / "study"), dataset, question.goal) is not None:
        return
    best = search.candidates[search.standing()[0].candidate]
    raise StudyError(
        f"no finalist ended within {question.minutes:g} minutes, so nothing is known about the test side; on the validation "
        f"slice, {best.name} ({settings_in_words(best.settings, prepared.plan.samples_per_class)}) is the best so far. Run the same command again, or give more minutes"
    )


def _more_seeds(
    plan: Plan, folder: Path, clock: Clock, show: Shown, download: bool, jobs: int | None
) -> None:
    """More seeds, while there is time for them by the measured time of the runs so far."""
    for seeds in MORE_SEEDS:
        view = read_study(folder / "study")
        runs = view.results.summaries
        seconds = sum(float(row.get("seconds") or 0.0) for row in runs)
        had = len({row["seed"] for row in runs})
        # with one core, and twice as long as measured: runs also start and write
        if had < 1 or had >= seeds or 2 * seconds / had * (seeds - had) > clock.left:
            return
        if not _finals(plan, folder, clock, show, download, jobs, seeds):
            return


def _learning_curve(
    plan: Plan,
    prepared: Prepared,
    question: Question,
    folder: Path,
    clock: Clock,
    jobs: int | None,
) -> Curve | None:
    """The winner on parts of the training side, as far as they can be measured; None without a winner."""
    view = read_study(folder / "study")
    dataset = prepared.features.dataset
    found = verdict(view, dataset, question.goal)
    if found is None:
        return None
    winner = next(loss for loss in plan.losses if loss.title == found.best.base)
    seeded = plan.model_copy(update={"seeds": list(range(SEEDS))})
    deadline = clock.after(CURVE)
    values: list[dict[int, float | None]] = []
    rows: list[int] = []
    missing: list[str] = []
    by_classes = has_unseen_classes(prepared.features)
    for share in SHARES:
        features = with_less_training(prepared.features, share)
        place = folder / "curve" / f"{share:.0%}".replace("%", "-percent")
        rows.append(len(features.train))
        values.append({})
        why = ""
        try:
            own = fitting(seeded, winner, features)
            if not _failed(place, own.losses[0]):  # the same data would fail again
                do_runs(
                    RunQueue(own, [features]),
                    place,
                    plan=own,
                    prepared=[features],
                    left_out=[],
                    progress=Deadline(deadline),
                    resources=Resources(jobs=jobs),
                )
            part = read_study(place)
            if part.losses:
                values[-1] = part.values(dataset, part.losses[0], question.metric)
            if not values[-1]:
                why = _failed(place, own.losses[0]) or "no run has a result"
        except OutOfTime:
            why = "there was no time left"
        except DataError:  # no slice can be cut; what the error advises is for the whole data
            why = too_few(features, prepared.features, by_classes=by_classes)
        if why:
            missing.append(f"{IN_WORDS[share]}: {why}")
    values.append(view.values(dataset, found.best, question.metric))
    rows.append(len(prepared.features.train))
    return curve_from(
        values,
        rows,
        by_classes=by_classes,
        missing="; ".join(missing),
    )


def _failed(place: Path, loss: LossPlan) -> str:
    """The error of the first run of a part, if all runs of this loss there have failed; else empty."""
    if not (place / "study.json").is_file():
        return ""
    part = read_study(place)
    failures = [row for row in part.results.failures if row["base"] == loss.title]
    done = any(row["base"] == loss.title for row in part.results.summaries)
    return "" if done or len(failures) < SEEDS else f"all runs failed: {failures[0]['error']}"


def too_few(part: FeatureSet, whole: FeatureSet, *, by_classes: bool) -> str:
    """Why a part of the training side has no validation slice, with its size."""
    if part.pairs is not None:
        return f"too few queries ({len(part.train):,} of {len(whole.train):,})"
    if by_classes:
        classes, of = (len(side.labels[side.train].unique()) for side in (part, whole))
        return f"too few classes ({classes:,} of {of:,})"
    return f"too few rows per class ({len(part.train):,} of {len(whole.train):,} rows)"


def fitting(plan: Plan, loss: LossPlan, features: FeatureSet) -> Plan:
    """The study of this loss, with M-per-class batches that the training rows can fill: fewer rows of a class, then fewer
    classes; with fewer than two classes of two rows, random batches. Raises DataError if no slice can be cut."""
    labels = training_labels(features, plan.validation_share)
    if loss.sampler != "m_per_class" or loss.batch_size is None:
        return plan.model_copy(update={"losses": [loss]})
    sizes = labels.unique(return_counts=True)[1]
    for several in sorted({plan.samples_per_class, 2}, reverse=True):
        classes = int((sizes >= several).sum())
        if classes >= 2:
            of_size = loss.at({BATCH_SIZE: min(loss.batch_size, classes * several)})
            update: dict[str, object] = {"losses": [of_size]}
            if several != plan.samples_per_class:
                update |= {"sampler": "m_per_class", "samples_per_class": several}
            return plan.model_copy(update=update)
    return plan.model_copy(update={"losses": [loss.at({SAMPLER: "random"})]})


def curve_from(
    values: Sequence[dict[int, float | None]],
    rows: Sequence[int],
    *,
    by_classes: bool,
    missing: str = "",
) -> Curve:
    """The learning curve from the value of each seed at each size; a size without a value has no point."""
    levels = [interval(of.values()) for of in values]
    points = [
        Point(share, count, level)
        for share, count, level in zip((*SHARES, 1.0), rows, levels, strict=True)
        if level is not None
    ]
    gains = [
        interval(
            after - before
            for seed in larger
            if (before := smaller.get(seed)) is not None and (after := larger[seed]) is not None
        )
        for smaller, larger in pairwise(values)
    ]
    if gains[-1] is None:
        gains = []
    return Curve(tuple(points), tuple(gain for gain in gains if gain), by_classes, missing)


def _answer(
    question: Question,
    prepared: Prepared,
    search: HalvingSearch,
    standing: Sequence[Score],
    folder: Path,
    clock: Clock,
    curve: Curve | None,
    *,
    complete: bool,
) -> Advice:
    view = read_study(folder / "study")
    dataset = prepared.features.dataset
    plan = finalists(prepared, search, question)
    found = verdict(view, dataset, question.goal)
    assert found is not None  # _check_finalists
    if (
        prepared.features.pairs is not None
    ):  # a study that was cut has not written them, or only those of fewer seeds
        source = row_source(plan, prepared.features, prepared.images)
        write_query_changes(view, prepared.features, source, Store(folder / "study"))
    page = folder / "study" / "report.html"
    winner = next(loss for loss in plan.losses if loss.title == found.best.base)
    outcome = Outcome(
        question=question,
        prepared=prepared,
        plan=plan,
        verdict=found,
        training=training(view, dataset, found.best, question.metric),
        others=other_goals(view, dataset, question.goal),
        standing=standing,
        curve=curve,
        trials=sum(len(search.scores(rung)) for rung in range(len(search.epochs))),
        seeds=len(view.settled_seeds(dataset)),
        queries=len(prepared.features.test),
        complete=complete,
        changed=read_query_changes(Layout(folder / "study"), dataset),
        centering=centering_sentence(view, dataset, question.metric),
    )
    text = study_of(winner, prepared.plan)
    study_file = folder / f"winner-{name_of(question.data)}.yaml"
    with atomic_file(study_file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    second = found.losses[1].name if len(found.losses) > 1 else None
    advice = Advice(
        data=question.data,
        goal=question.goal,
        minutes=question.minutes,
        train="open" if outcome.training is None else outcome.training.train,
        loss=winner.name,
        settings=dict(winner.settings),
        clear=found.is_clear,
        runner_up=second,
        sentences=tuple(sentences(outcome)),
        yaml=text,
        code=code_of_loss(winner),
        run=winning_run(view, dataset, found.best, folder / "study"),
        study=str(folder / "study"),
        study_file=str(study_file),
        page=str(page),
        complete=complete,
        failed=len(view.results.failures),
        seconds=clock.elapsed,
    )
    about = f"{question.data}, for {asked(question)}"
    Store(folder / "study").write_answer(
        about, advice.plain["sentences"], loss=advice.run.loss, seed=advice.run.seed
    )
    write_page(read_study(folder / "study"), page)
    write_json(folder / "advice.json", advice.plain)
    return advice


def winning_run(view: StudyView, dataset: str, loss: Loss, folder: Path) -> WinningRun:
    """The finished run of the lowest seed."""
    seed, row = min(view.runs(dataset, loss).items())
    return WinningRun(dataset, loss.base, seed, str(folder / "runs" / str(row["run"])))


def study_of(loss: LossPlan, plan: Plan) -> str:
    """The YAML of a study of one loss with the settings of the answer."""
    content: dict[str, Any] = plan.model_dump(
        mode="json", exclude_unset=True, exclude={"losses", "seeds", "question"}
    )
    content |= {"losses": [{loss.name: dict(loss.settings)}], "seeds": SEEDS}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def code_of_loss(loss: LossPlan) -> str:
    """The loss in Python, and the settings of the training as a comment."""
    own = ", ".join([repr(loss.name), *(f"{key}={value!r}" for key, value in loss.fixed.items())])
    rate, *batches = (f"{key} {loss.settings[key]}" for key in TRAINING if key in loss.settings)
    return (
        f"loss = lg.load_loss({own})  # {', '.join([rate, *batches])}"
        if LEARNING_RATE in loss.settings
        else f"loss = lg.load_loss({own})"
    )


def default_folder(data: str, goal: str = "ranking") -> Path:
    """Where the results go if no folder is given: one folder for each goal, since each has its own search and answer."""
    of_goal = "" if goal == "ranking" else f"-{goal}"
    return Path("lossgauge-results") / f"advise-{name_of(data)}{of_goal}"


def name_of(data: str) -> str:
    """What files about these data are called. Raises InputError for data without a name."""
    path = Path(data.partition(":")[2] or data)
    name = path.stem or path.resolve().stem
    if not data or not name:
        raise InputError(
            f"{data!r} names no data; give folder:PATH, embeddings:PATH or a dataset's name"
        )
    return name
