"""Which diagnostic, measured during training, goes with the final retrieval: rank correlations over the runs of a dataset.

A point is a loss with one of its settings. Trials are judged by the validation slice, since a search never sees the test side; runs
of the plan and of the sensitivity analysis by the test side. The two are never mixed, and no diagnostic is measured on the test side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import StudyView
from lossgauge.stats.intervals import known, rank_correlation
from lossgauge.stats.number_format import rounded
from lossgauge.types import Record

Kind = Literal["runs", "trials"]

EARLY = (1, 2, 5)
"""Epochs at which diagnostics are read, besides the last one: our choice."""

LAST = -1
"""Key of the last epoch."""

FEWEST_POINTS = 8
"""A dataset with fewer points is left out: our choice."""

_WORDS: dict[Kind, str] = {
    "runs": "test {} of all losses as in the plan and at other settings",
    "trials": "validation {} of all trials of the searches",
}
_SIDE: dict[Kind, str] = {"runs": "", "trials": "validation_"}

Point = Mapping[tuple[str, int], float]
"""(diagnostic, epoch) → value of one loss with one of its settings."""


class Cell(NamedTuple):
    """A diagnostic at one epoch."""

    mean: float
    """Of the rank correlations of the datasets, from −1 to 1."""
    low: float
    high: float
    """The range of that mean if one dataset is left out; the mean itself if there is only one."""
    datasets: int

    @property
    def text(self) -> str:
        return rounded(self.mean, 2, signed=True)

    @property
    def range(self) -> str:
        return f"{rounded(self.low, 2, signed=True)} to {rounded(self.high, 2, signed=True)}"


class Predictors(NamedTuple):
    """A table diagnostic × epoch."""

    kind: Kind
    target: str
    """Title of the measure that is predicted."""
    words: str
    """It, and of what."""
    points: Mapping[str, int]
    """Dataset → losses with one of their settings."""
    epochs: tuple[str, ...]
    """`epoch 1`, …, `last epoch`."""
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """Title of a diagnostic and its cells; None where it is constant or was not measured."""


def predictors(view: StudyView) -> list[Predictors]:
    """For runs and for trials; empty without enough points or without the folder of the study."""
    if view.files is None:
        return []
    kinds: tuple[Kind, ...] = ("runs", "trials")
    return [found for kind in kinds if (found := _of_kind(view, kind)) is not None]


def _of_kind(view: StudyView, kind: Kind) -> Predictors | None:
    by_dataset = {}
    for dataset in view.datasets:
        points = _points(view, dataset, kind)
        if len(points) >= FEWEST_POINTS:
            by_dataset[dataset] = points
    if not by_dataset:
        return None
    epochs = (*EARLY, LAST)
    rows = [
        (COLUMNS[name].title, tuple(_cell(by_dataset.values(), (name, epoch)) for epoch in epochs))
        for name in view.measures.predictors
    ]
    target = COLUMNS[view.measures.predicted].title
    return Predictors(
        kind,
        target,
        _WORDS[kind].format(target),
        {dataset: len(points) for dataset, points in by_dataset.items()},
        (*(f"epoch {epoch}" for epoch in EARLY), "last epoch"),
        tuple(row for row in rows if any(row[1])),
    )


def _points(view: StudyView, dataset: str, kind: Kind) -> list[tuple[Point, float]]:
    """What was measured of each loss with one of its settings, its mean over seeds, and the final retrieval."""
    by_setting: dict[object, list[tuple[Point, float]]] = {}
    for row in _rows(view, dataset, kind):
        target = known(row.get(f"{_SIDE[kind]}{view.measures.predicted}"))
        if target is not None:
            by_setting.setdefault(_setting(row), []).append((_measured(view, row), target))
    return [
        (_mean([point for point, _ in of_one]), fmean(target for _, target in of_one))
        for of_one in by_setting.values()
    ]


def _rows(view: StudyView, dataset: str, kind: Kind) -> Iterable[Record]:
    if kind == "trials":
        return view.trials(dataset)
    rows = (*view.results.summaries, *view.results.sensitivity)
    return [
        row
        for row in rows
        if row["dataset"] == dataset and row["variant"] != "tuned" and row["epochs"]
    ]


def _setting(row: Record) -> object:
    return row["base"], row.get("setting"), row.get("factor"), row.get("trial")


def _measured(view: StudyView, row: Record) -> Point:
    assert view.files is not None
    epochs = view.files.epochs[row["run"]]
    last = epochs.num_rows - 1
    rows = {
        **{epoch: epoch for epoch in EARLY if epoch <= last},
        LAST: last,
    }  # epoch 0 is the first
    read = epochs.select([name for name in view.measures.predictors if name in epochs.column_names])
    return {
        (name, epoch): number
        for epoch, of in zip(rows, read.take(list(rows.values())).to_pylist(), strict=True)
        for name, value in of.items()
        if (number := known(value)) is not None
    }


def _mean(points: Sequence[Point]) -> Point:
    shared = set.intersection(*(set(point) for point in points))
    return {key: fmean(point[key] for point in points) for key in shared}


def _cell(by_dataset: Iterable[Sequence[tuple[Point, float]]], key: tuple[str, int]) -> Cell | None:
    values = []
    for points in by_dataset:
        pairs = [(point[key], target) for point, target in points if key in point]
        if len(pairs) < FEWEST_POINTS:
            continue
        found = rank_correlation(*map(list, zip(*pairs, strict=True)))
        if found is not None:
            values.append(found.value)
    if not values:
        return None
    without_one = [fmean([*values[:i], *values[i + 1 :]] or values) for i in range(len(values))]
    return Cell(fmean(values), min(without_one), max(without_one), len(values))
