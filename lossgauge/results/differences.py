"""Differences of losses with their intervals: over new seeds and, where the runs kept their queries, over new queries too.

Every interval of a difference is computed here; docs/statistics.md says how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from lossgauge.errors import InputError
from lossgauge.results.columns import COLUMNS, HIT_WITHIN, PER_JUDGED_QUERY, PER_QUERY
from lossgauge.results.measures import OF_PAIRS, measures_of
from lossgauge.results.run_files import RunFiles
from lossgauge.stats.answers import Answers, differences, group_mean
from lossgauge.stats.crossed import Drawn, crossed, crossed_interval, drawn_again, level_interval
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.seed_variance import (
    Pool,
    Variance,
    agreement,
    contrast_variance,
    pool,
    seed_interval,
)
from lossgauge.types import Record

_PER_QUERY = {**PER_QUERY, **PER_JUDGED_QUERY}

Runs = Mapping[int, Record]
"""Seed → row of a run of one loss, or → the row of a reference space."""

Group = Sequence[Runs]
"""Losses that are compared together."""


class _Queries(NamedTuple):
    """The queries of the test side of one run."""

    ids: Shaped[np.ndarray, " queries"]
    labels: Shaped[np.ndarray, " queries"]
    values: Mapping[str, Float[np.ndarray, " queries"]]


class LossAnswers(NamedTuple):
    """What one loss answered in its runs, to be compared with another study."""

    answers: Answers
    labels: Shaped[np.ndarray, " queries"]
    """The class of each query."""
    drawn: Drawn
    """What a new test side would change."""


class _PooledLosses(NamedTuple):
    """The losses of a dataset together, in one column and over some seeds."""

    pool: Pool
    typical: Mapping[tuple[object, ...], float]
    """Names of the runs of a loss → how well it agrees with the others."""


class Differences:
    """Those of one study. Each is computed when it is first needed, and then kept, as are queries and pools."""

    def __init__(self, files: RunFiles | None, losses_of: Callable[[str], Iterable[Runs]]) -> None:
        """`losses_of` a dataset are its losses with the settings of the plan: they say how much seeds vary."""
        self._files = files
        self._losses_of = losses_of
        self._queries: dict[str, _Queries] = {}
        self._drawn_of: dict[str, Drawn] = {}
        self._found: dict[object, tuple[list[list[Record]], Interval | None]] = {}
        self._pools: dict[tuple[str, str, tuple[int, ...]], _PooledLosses | None] = {}

    def contrast(self, left: Group, right: Group, column: str) -> Interval | None:
        """Mean of the losses of `left` − mean of those of `right`, paired by seed and query.

        None if no shared seed has all values. InputError if two runs were asked different queries.
        """
        key = column, _ids(left), _ids(right)
        if key in self._found:
            return self._found[key][1]
        turned = self._found.get((column, _ids(right), _ids(left)))
        found = turned[1] and turned[1].turned if turned else self._contrast(left, right, column)
        # with the rows, so that no other row gets the id of one of them
        rows = [[*runs.values()] for runs in (*left, *right)]
        self._found[key] = rows, found
        return found

    def answers(self, runs: Runs, column: str) -> LossAnswers | None:
        """The answers of one loss; None if the column has none, or if a run did not keep them or has no value.

        InputError if two runs were asked different queries.
        """
        seeds = tuple(sorted(runs))
        if not seeds or any(known(runs[seed].get(column)) is None for seed in seeds):
            return None
        queries = self._of_queries([runs], column, seeds)
        if queries is None:
            return None
        drawn = self._drawn(str(runs[seeds[0]]["dataset"]), [runs], seeds)
        return LossAnswers(self._answers(runs, column, seeds), queries.labels, drawn)

    def level(self, runs: Runs, column: str) -> Interval | None:
        """The mean of one loss, or of a reference space, over new seeds and new queries; None as for `answers`.

        The variance between seeds is its own: what a seed adds to all losses does not cancel in a level.
        """
        if (of := self.answers(runs, column)) is None:
            return None
        found = level_interval(
            crossed(of.answers.values.astype(float), drawn=of.drawn, classes=of.labels)
        )
        # no head is trained in a reference space
        over = found.over.removeprefix("these trained heads on ")
        return found if of.answers.seeds else found._replace(over=over)

    def _contrast(self, left: Group, right: Group, column: str) -> Interval | None:
        shared = set.intersection(*(set(runs) for runs in (*left, *right)))
        by_seed = {
            seed: difference
            for seed in sorted(shared)
            if (difference := _difference(left, right, column, seed)) is not None
        }
        if not by_seed:
            return None
        seeds, values = tuple(by_seed), np.array(list(by_seed.values()))
        between = self._between(left, right, column, seeds, values) if len(seeds) > 1 else None
        queries = self._of_queries([*left, *right], column, seeds)
        if queries is None:
            return seed_interval(values, between)
        sides = [
            group_mean([self._answers(runs, column, seeds) for runs in group])
            for group in (left, right)
        ]
        found = crossed(
            differences(*sides),
            drawn=self._drawn(str(_rows_of(left[0], seeds)[0]["dataset"]), [*left, *right], seeds),
            classes=queries.labels,
            seed_variance=between,
        )
        return crossed_interval(found)

    def _between(
        self,
        left: Group,
        right: Group,
        column: str,
        seeds: tuple[int, ...],
        values: Float[np.ndarray, " seeds"],
    ) -> Variance:
        """The variance between seeds, with what the other losses of the study say about it."""
        squares = 1 / len(left) + 1 / len(right)
        pooled = self._pooled(str(_rows_of(left[0], seeds)[0]["dataset"]), column, seeds)
        if pooled is None:
            return contrast_variance(values, squares, 0.0, None)
        typical = min(_typical(runs, column, seeds, pooled) for runs in (*left, *right))
        return contrast_variance(values, squares, typical, pooled.pool)

    def _pooled(self, dataset: str, column: str, seeds: tuple[int, ...]) -> _PooledLosses | None:
        """None for a column without a margin: settings multiply it, so the spreads of two losses cannot be compared."""
        if column not in COLUMNS or COLUMNS[column].margin is None:
            return None
        key = dataset, column, seeds
        if key not in self._pools:
            means = {
                _names_of(runs, seeds): _means(runs, column, seeds)
                for runs in self._losses_of(dataset)
                if set(seeds) <= set(runs)
            }
            complete = {names: row for names, row in means.items() if np.isfinite(row).all()}
            found = pool(np.array(list(complete.values()))) if len(complete) > 2 else None
            self._pools[key] = found and _PooledLosses(
                found, dict(zip(complete, found.typical.tolist(), strict=True))
            )
        return self._pools[key]

    def _of_queries(
        self, losses: Sequence[Runs], column: str, seeds: tuple[int, ...]
    ) -> _Queries | None:
        """The queries that all these runs were asked; None if the column has none, or if a run did not keep them."""
        if self._files is None or column not in (*_PER_QUERY, *HIT_WITHIN):
            return None
        rows = [row for runs in losses for row in _rows_of(runs, seeds)]
        if not all(self._files.has_queries(row) for row in rows):
            return None
        first = self._read(rows[0])
        if column not in first.values:
            return None
        for row in rows[1:]:
            if not np.array_equal(first.ids, (other := self._read(row)).ids):
                raise InputError(
                    f"runs that are compared must be asked the same queries in the same order, but on {row['dataset']!r} "
                    f"those of {_name(rows[0])} and {_name(row)} differ: {_how_they_differ(first.ids, other.ids)}"
                )
        return first if len(first.ids) else None

    def _drawn(self, dataset: str, losses: Sequence[Runs], seeds: tuple[int, ...]) -> Drawn:
        """What a new test side would change: new classes if some are unseen in training, otherwise queries of the same classes.

        Of queries and documents, labels number the clusters of queries that right documents connect.
        """
        if dataset not in self._drawn_of:
            given = [row for runs in losses for row in _rows_of(runs, seeds)]
            trained = (row for runs in self._losses_of(dataset) for row in runs.values())
            row = next((row for row in (*given, *trained) if "reference" not in row), None)
            if row is None or self._files is None:
                return "queries"  # a reference space alone: there is no run to read a split from
            unseen = self._files.has_unseen_classes(str(row["run"]))
            self._drawn_of[dataset] = drawn_again(
                of_pairs=measures_of(row) is OF_PAIRS, unseen=unseen
            )
        return self._drawn_of[dataset]

    def _answers(self, runs: Runs, column: str, seeds: tuple[int, ...]) -> Answers:
        rows = _rows_of(runs, seeds)
        if "reference" in rows[0]:
            rows, seeds = rows[:1], ()  # no seed changes it
        found = [self._read(row) for row in rows]
        return Answers(np.array([of.values[column] for of in found]), seeds, found[0].ids)

    def _read(self, row: Record) -> _Queries:
        name = _name(row)
        if name not in self._queries:
            assert self._files is not None
            self._queries[name] = _queries_of(row, self._files)
        return self._queries[name]


def _ids(losses: Group) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(id(row) for _, row in sorted(runs.items())) for runs in losses)


def _queries_of(row: Record, files: RunFiles) -> _Queries:
    """InputError unless their means are the numbers of the run: then one of its files does not belong to the other."""
    table = files.queries_of(row, ["query", "label", "first_right_rank", *_PER_QUERY.values()])
    values = {
        of: table[query].to_numpy().astype(float)
        for of, query in _PER_QUERY.items()
        if query in table.column_names
    }
    rank = table["first_right_rank"].to_numpy()
    values |= {of: (rank <= within).astype(float) for of, within in HIT_WITHIN.items()}
    for column, of_queries in values.items():
        stated, mean = known(row.get(column)), float(of_queries.mean()) if len(rank) else math.nan
        if stated is not None and len(rank) and not abs(mean - stated) <= 1e-9:
            raise InputError(
                f"{_name(row)} is damaged: its {COLUMNS[column].title} is {stated:.6g}, and the mean over its queries is "
                f"{mean:.6g}; delete its folder in runs, and run the same study again"
            )
    return _Queries(table["query"].to_numpy(), table["label"].to_numpy(), values)


def _how_they_differ(first: np.ndarray, other: np.ndarray) -> str:
    if count := len(np.setxor1d(first, other)):
        return f"{count} are on one side only; report them as two studies"
    return "their order differs, or one is there twice; a file is damaged, so delete the folder of that run and run the study again"


def _difference(left: Group, right: Group, column: str, seed: int) -> float | None:
    """None if a run does not have the value."""
    sides = [[known(runs[seed].get(column)) for runs in group] for group in (left, right)]
    a, b = ([value for value in side if value is not None] for side in sides)
    if len(a) < len(left) or len(b) < len(right):
        return None
    return math.fsum(a) / len(a) - math.fsum(b) / len(b)


def _typical(runs: Runs, column: str, seeds: tuple[int, ...], of: _PooledLosses) -> float:
    """How well a loss agrees with all losses of the study; 0 for a reference, which no seed changes."""
    if "reference" in runs[seeds[0]]:
        return 0.0
    names = _names_of(runs, seeds)
    if names in of.typical:
        return of.typical[names]
    return agreement(of.pool, _means(runs, column, seeds))


def _rows_of(runs: Runs, seeds: Sequence[int]) -> list[Record]:
    return [runs[seed] for seed in seeds]


def _means(runs: Runs, column: str, seeds: Sequence[int]) -> Float[np.ndarray, " seeds"]:
    values = [known(row.get(column)) for row in _rows_of(runs, seeds)]
    return np.array([math.nan if value is None else value for value in values])


def _names_of(runs: Runs, seeds: Sequence[int]) -> tuple[object, ...]:
    """What identifies a loss by its runs. Results that were not read from a folder may have rows without names."""
    return tuple(row.get("run") or id(row) for row in _rows_of(runs, seeds))


def _name(row: Record) -> str:
    return f"{row['reference']} of {row['dataset']}" if "reference" in row else str(row["run"])
