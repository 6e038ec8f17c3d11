"""What the runs of the finalists show, as a record: which loss, whether to train at all, and what is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

from lossgauge.advice.question import GOALS, PAIR_GOALS, Goal
from lossgauge.health.finding import Finding
from lossgauge.report.text.not_training import UNTRAINED_HEAD, compared
from lossgauge.report.text.selection import picks_the_start
from lossgauge.report.text.short_training import of_loss
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.decisions import Decision, Side, decide
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.stats.planning import seeds_needed
from lossgauge.types import Record

Train = Literal["train", "keep", "equivalent", "open"]

NEAR = 0.95
"""Share of the best final MAP@R that `speed` waits for."""

COLUMN: Mapping[Goal, str] = {
    "top1": "recall_at_1",
    "ranking": "map_at_r",
    "diversity": "test_intra",
    "speed": "epochs_to_95",
}
"""What each goal is judged by. `epochs_to_95` is no column of a run: see `epochs_to_near`."""


def column_of(goal: Goal, *, of_pairs: bool) -> str:
    """The column that a goal is judged by; of queries and documents, ranking is by nDCG@10."""
    return "ndcg_at_10" if of_pairs and goal == "ranking" else COLUMN[goal]


class Verdict(NamedTuple):
    """The best loss for a goal on one dataset."""

    goal: Goal
    best: Loss
    losses: tuple[Loss, ...]
    """Those that are compared by this goal, best first."""
    levels: Mapping[Loss, Interval]
    """Of the quantity of the goal: as `StudyView.interval`; of `speed`, over new seeds."""
    differences: Mapping[Loss, Interval]
    """The best minus each other."""
    decisions: Mapping[Loss, Decision]
    """One family, corrected together."""
    at_start: bool = False
    """For `speed`: whether the untrained head is there already in most seeds, so that nothing can be compared."""
    column: str = "map_at_r"
    """What was compared: see `column_of`."""

    @property
    def ties(self) -> tuple[Loss, ...]:
        """Losses that are not clearly behind the best."""
        worse = "lower" if self.goal == "speed" else "higher"
        return tuple(
            loss
            for loss in self.losses[1:]
            if loss not in self.decisions or self.decisions[loss].side != worse
        )

    @property
    def is_clear(self) -> bool:
        """Whether the best is clearly better than every other; not with one loss."""
        return len(self.losses) > 1 and not self.ties

    @property
    def seeds_needed(self) -> int | None:
        """Seeds with which the closest open comparison is decided with a chance of 80 %; None if it is not known."""
        needed = [
            seeds_needed(self.differences[loss], None, family=len(self.differences))
            for loss in self.ties
            if loss in self.differences and self.decisions[loss].side == "open"
        ]
        known_numbers = [number for number in needed if number is not None]
        return max(known_numbers) if needed and len(known_numbers) == len(needed) else None


class Training(NamedTuple):
    """The best loss compared with the frozen features."""

    train: Train
    column: str
    frozen: float
    level: Interval
    difference: Interval
    """The loss minus the frozen features."""
    family: int
    untrained: float | None = None
    """The same measure of the untrained head; None if it was not measured."""
    untrained_side: Side = "open"
    """Of the loss minus the untrained head: `lower` if the untrained head is clearly better."""
    short: Finding | None = None
    """Why the training was too short to say that it does not help; None if it helps, or was long enough."""
    at_start: bool = False
    """Whether every run counts with epoch 0, which the validation slice picked: the raw model itself."""


def verdict(view: StudyView, dataset: str, goal: Goal) -> Verdict | None:
    """The best loss by a goal; None if no loss has the number in every seed.

    `diversity` compares only losses whose MAP@R is equivalent to the best, by intra; `speed` only losses that reach 95 % of
    the final MAP@R of the best loss, by the epochs that this takes.
    """
    if goal == "speed":
        return _soonest(view, dataset)
    column = column_of(goal, of_pairs=view.of_pairs)
    losses: Sequence[Loss] = view.losses
    if goal == "diversity":
        ranking = verdict(view, dataset, "ranking")
        if ranking is None:
            return None
        losses = [
            ranking.best,
            *(loss for loss, of in ranking.decisions.items() if of.side == "equivalent"),
        ]
    runs = {loss: view.settled_runs(dataset, loss) for loss in losses}
    levels = {
        loss: of
        for loss in view.complete(dataset, losses, column)
        if (of := view.interval(dataset, loss, column))
    }
    if not levels:
        return None
    ordered = sorted(levels, key=lambda loss: -levels[loss].mean)
    best = ordered[0]
    differences = {
        loss: of
        for loss in ordered[1:]
        if (of := view.contrast([runs[best]], [runs[loss]], column)) is not None
    }
    return _judged(goal, ordered, levels, differences, column)


def _judged(
    goal: Goal,
    ordered: Sequence[Loss],
    levels: Mapping[Loss, Interval],
    differences: Mapping[Loss, Interval],
    column: str,
) -> Verdict:
    margin = COLUMNS[column].margin if column in COLUMNS else 0.5
    decided = decide(list(differences.values()), margin)
    decisions = dict(zip(differences, decided, strict=True))
    return Verdict(goal, ordered[0], tuple(ordered), levels, differences, decisions, column=column)


def training(view: StudyView, dataset: str, loss: Loss, column: str) -> Training | None:
    """Whether the loss is better than the frozen features by a measure of retrieval; None if they were not measured.

    The correction is over all losses of the study and both ways of not training.
    """
    of = compared(view, dataset, column)
    level = view.interval(dataset, loss, column)
    raw = view.measures.raw
    if of is None or level is None or (loss, raw) not in of.decisions:
        return None
    sides: dict[str, Train] = {"higher": "train", "lower": "keep", "equivalent": "equivalent"}
    train = sides.get(of.decisions[loss, raw].side, "open")
    short = None if train == "train" else of_loss(view, dataset, loss, of)
    at_start = picks_the_start(view, dataset, [loss])
    if short is not None:
        train = "open"
    elif at_start:
        train = "keep"
    untrained = of.decisions.get((loss, UNTRAINED_HEAD))
    return Training(
        train,
        column,
        of.levels[raw],
        level,
        of.differences[loss, raw],
        of.family,
        of.levels.get(UNTRAINED_HEAD),
        "open" if untrained is None else untrained.side,
        short,
        at_start,
    )


def epochs_to_near(rows: Sequence[Record], column: str, target: float) -> float | None:
    """The epoch at which a column of the epochs of one run first reaches `target`, linear between epochs; None if never.

    Epoch 0 is the untrained head: 0 if it is there already.
    """
    before: tuple[float, float] | None = None
    for row in sorted(rows, key=lambda row: int(row["epoch"])):
        value = known(row.get(column))
        if value is None:
            continue
        epoch = float(row["epoch"])
        if value >= target:
            if before is None:
                return epoch
            return before[0] + (epoch - before[0]) * (target - before[1]) / (value - before[1])
        before = epoch, value
    return None


def _soonest(view: StudyView, dataset: str) -> Verdict | None:
    """By the epochs until the validation slice has 95 % of what the best loss has there in the end."""
    column = "validation_map_at_r"
    curves: dict[Loss, dict[int, list[Record]]] = {}
    settled = view.settled_seeds(dataset)
    for loss in view.complete(dataset, view.losses, "map_at_r"):
        for row in view.epochs(dataset, loss):
            if int(row["seed"]) not in settled:  # after a stop, a loss may have more
                continue
            curves.setdefault(loss, {}).setdefault(int(row["seed"]), []).append(row)
    finals = {loss: _final_mean(of_seeds, column) for loss, of_seeds in curves.items()}
    best_final = max((value for value in finals.values() if value is not None), default=None)
    if best_final is None:
        return None
    reached: dict[Loss, dict[int, float]] = {}
    for loss, of_seeds in curves.items():
        times = {s: epochs_to_near(rows, column, NEAR * best_final) for s, rows in of_seeds.items()}
        if all(time is not None for time in times.values()):
            reached[loss] = {seed: time for seed, time in times.items() if time is not None}
    levels = {loss: of for loss, times in reached.items() if (of := interval(times.values()))}
    if not levels:
        return None
    final = {loss: of.mean for loss in levels if (of := view.interval(dataset, loss, "map_at_r"))}
    # where the untrained head is there already, all are equal
    ordered = sorted(levels, key=lambda loss: (levels[loss].mean, -final.get(loss, 0.0)))
    first = reached[ordered[0]]
    differences = {
        loss: of
        for loss in ordered[1:]
        if (
            of := interval(
                [first[seed] - time for seed, time in reached[loss].items() if seed in first]
            )
        )
    }
    judged = _judged("speed", ordered, levels, differences, COLUMN["speed"])
    return judged._replace(at_start=median(first.values()) == 0)


def _final_mean(of_seeds: Mapping[int, Sequence[Record]], column: str) -> float | None:
    """The mean over seeds of the last known value."""
    finals = []
    for rows in of_seeds.values():
        values = [
            v
            for row in sorted(rows, key=lambda r: int(r["epoch"]))
            if (v := known(row.get(column))) is not None
        ]
        if values:
            finals.append(values[-1])
    return math.fsum(finals) / len(finals) if finals else None


def other_goals(view: StudyView, dataset: str, goal: Goal) -> dict[Goal, Verdict]:
    """The verdicts of the goals that were not asked for."""
    goals = PAIR_GOALS if view.of_pairs else GOALS
    found = {other: verdict(view, dataset, other) for other in goals if other != goal}
    return {other: of for other, of in found.items() if of is not None}
