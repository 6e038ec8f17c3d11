"""One loss in two studies: which datasets and losses belong together, and every difference with its interval.

Second study − first study. Docs: docs/compare.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from lossgauge.errors import InputError
from lossgauge.results.columns import check_column
from lossgauge.results.differences import LossAnswers, Runs
from lossgauge.results.view import BASELINE, Loss, StudyView, in_order
from lossgauge.stats.crossed import WHOLE, crossed, crossed_interval
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.seed_variance import contrast_variance, seed_interval
from lossgauge.stats.two_samples import difference_of_means, other_queries, other_seeds

Paired = Literal["seeds and queries", "queries", "seeds", "nothing"]
"""What two studies share in one comparison."""

SAME_RUNS = "the same runs in both studies"


class Difference(NamedTuple):
    """One number of one loss, in the second study minus the first."""

    interval: Interval | None
    """None if a study does not have the number."""
    paired: Paired


class SharedDataset(NamedTuple):
    """A dataset that both studies have."""

    first: str
    """Its name in the first study."""
    second: str
    same_rows: bool
    """Whether both have the same rows, with the same labels, on the same sides of the split."""


def shared_datasets(first: StudyView, second: StudyView) -> list[SharedDataset]:
    """Datasets of the same name; then those of other names that have the same rows (two tables of embeddings).

    InputError if rows of one dataset of a study come from different splits.
    """
    for view in (first, second):
        view.check_one_split()
    prints = [
        {name: _fingerprint(view, name) for name in view.datasets} for view in (first, second)
    ]
    named = [name for name in first.datasets if name in second.datasets]
    found = [SharedDataset(n, n, prints[0][n] == prints[1][n] is not None) for n in named]
    left, right = (
        {print_: name for name, print_ in of.items() if name not in named and print_ is not None}
        for of in prints
    )
    return [
        *found,
        *(SharedDataset(name, right[p], True) for p, name in left.items() if p in right),
    ]


def shared_losses(first: Iterable[Loss], second: Iterable[Loss]) -> list[tuple[Loss, Loss]]:
    """Losses with the same title; then those of one name, of which each study has one left: with other settings."""
    ours, theirs = list(first), list(second)
    found = {loss: loss for loss in ours if loss in theirs}
    for loss in ours:
        key = loss.name, loss.tuned
        left, right = (
            [o for o in of if o not in found and (o.name, o.tuned) == key] for of in (ours, theirs)
        )
        if len(left) == len(right) == 1 and loss in left:
            found[loss] = right[0]
    return [(loss, found[loss]) for loss in in_order(found)]


def losses_of(view: StudyView, dataset: str) -> list[Loss]:
    """Losses with a finished run on a dataset, tuned ones and the untrained head among them."""
    return [loss for loss in (*view.losses_and_tuned, BASELINE) if view.runs(dataset, loss)]


def difference(
    first: StudyView,
    second: StudyView,
    shared: SharedDataset,
    losses: tuple[Loss, Loss],
    column: str,
) -> Difference:
    """A column of one loss in the second study − in the first, paired as far as the studies allow.

    With the same rows: by query, and by seed if the studies share at least two seeds, or the only seed of one of them.
    Otherwise by nothing. InputError for an unknown column, and if the runs of one study were asked different queries.
    """
    check_column(column)
    views, names = (first, second), (shared.first, shared.second)
    sides = [
        {
            seed: row
            for seed, row in view.runs(name, loss).items()
            if known(row.get(column)) is not None
        }
        for view, name, loss in zip(views, names, losses, strict=True)
    ]
    if not all(sides):
        return Difference(None, "nothing")
    seeds = _shared_seeds(*sides) if shared.same_rows else ()
    if seeds:
        sides = [{seed: runs[seed] for seed in seeds} for runs in sides]
        if all(_is_same_run(*(runs[seed] for runs in sides)) for seed in seeds):
            same = Interval(0.0, None, len(seeds), missing=SAME_RUNS)
            return Difference(same, "seeds and queries")
    answers = [view.answers(runs, column) for view, runs in zip(views, sides, strict=True)]
    left, right = answers
    if left is not None and right is not None:
        return _of_answers(left, right, same_rows=shared.same_rows, shared_seeds=bool(seeds))
    values = [np.array([float(row[column]) for _, row in sorted(runs.items())]) for runs in sides]
    if not seeds:
        return Difference(difference_of_means(*values), "nothing")
    by_seed = values[1] - values[0]
    between = contrast_variance(by_seed, 1.0, 0.0, None) if len(seeds) > 1 else None
    return Difference(seed_interval(by_seed, between), "seeds")


def _of_answers(
    left: LossAnswers, right: LossAnswers, *, same_rows: bool, shared_seeds: bool
) -> Difference:
    first, second = (side.answers.values.astype(float) for side in (left, right))
    # the order of the rows may differ even where the rows are the same; then they cannot be paired by their numbers
    paired = (
        same_rows
        and np.array_equal(left.answers.queries, right.answers.queries)
        and np.array_equal(left.labels, right.labels)
    )
    if not paired:
        # of two splits, the one with new classes decides: its queries are alike inside a class
        drawn = right.drawn if right.drawn in WHOLE else left.drawn
        found = other_queries(first, second, drawn=drawn, classes=(left.labels, right.labels))
        return Difference(found, "nothing")
    if not shared_seeds:
        found = other_seeds(first, second, drawn=left.drawn, classes=left.labels)
        return Difference(found, "queries")
    of_both = crossed(second - first, drawn=left.drawn, classes=left.labels)
    return Difference(crossed_interval(of_both), "seeds and queries")


def environment_differences(views: Sequence[StudyView]) -> dict[str, tuple[str, ...]]:
    """Versions and machine, where they differ → the value in each study; and the code of the runs, as `code`."""
    keys = dict.fromkeys(key for view in views for key in view.environment)
    values = {key: tuple(_text(view.environment.get(key)) for view in views) for key in keys}
    values["code"] = _codes(views)
    return {key: of_each for key, of_each in values.items() if len(set(of_each)) > 1}


def _codes(views: Sequence[StudyView]) -> tuple[str, ...]:
    """One hash of the code that decides the numbers of the runs, over the datasets and losses that all studies have."""
    codes = [
        {
            (str(of["dataset"]), str(of["loss"])): str(of.get("code"))
            for of in view.files.configs.values()
        }
        if view.files
        else {}
        for view in views
    ]
    shared = sorted(key for key in codes[0] if all(key in of for of in codes))
    texts = ["".join(of[key] for key in shared) for of in codes]
    return tuple(hashlib.sha256(text.encode()).hexdigest()[:8] for text in texts)


def _text(value: object) -> str:
    return "none" if value is None else str(value)


def _shared_seeds(first: Runs, second: Runs) -> tuple[int, ...]:
    """Seeds to pair by; none if the studies share too few: two seeds alone say more than one shared one."""
    shared = sorted(set(first) & set(second))
    return tuple(shared) if len(shared) > 1 or min(len(first), len(second)) == 1 else ()


def _is_same_run(first: Mapping[str, object], second: Mapping[str, object]) -> bool:
    """A run is named by the hash of all that it depends on."""
    return "run" in first and first["run"] == second.get("run")


def _fingerprint(view: StudyView, dataset: str) -> str | None:
    """Of the split; None if no run states it."""
    rows = (row for loss in losses_of(view, dataset) for row in view.runs(dataset, loss).values())
    return next((str(row["fingerprint"]) for row in rows if row.get("fingerprint")), None)


def check_shared(first: StudyView, second: StudyView) -> list[SharedDataset]:
    """`shared_datasets`; InputError if there is none."""
    found = shared_datasets(first, second)
    if not found:
        of_each = (", ".join(view.datasets) or "no dataset" for view in (first, second))
        raise InputError(
            f"the studies share no dataset (the first has {next(of_each)}; the second has {next(of_each)}); compare "
            "studies of the same data"
        )
    return found
