"""A read-only view of a study: its losses and seeds, their values, intervals and paired differences.

The report, the claims, exports and data frames read a study only through this view. It contains only data: no texts,
no colours, no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from lossgauge.diagnostics.references import COLLAPSE, FROZEN
from lossgauge.errors import InputError
from lossgauge.losses.registry import LOSSES
from lossgauge.plan.loss import UNTRAINED, LossPlan
from lossgauge.plan.rules import first_problem
from lossgauge.plan.study import names_pairs
from lossgauge.portable import portable_results
from lossgauge.results.columns import COLUMNS, Column, check_column
from lossgauge.results.differences import Differences, Group, LossAnswers, Runs
from lossgauge.results.measures import OF_CLASSES, OF_PAIRS, Measures, measures_of
from lossgauge.results.records import PlanRecord
from lossgauge.results.run_files import RunFiles
from lossgauge.stats.decisions import Decision, decide
from lossgauge.stats.intervals import Interval, interval, known
from lossgauge.types import Record, Results


class Loss(NamedTuple):
    """A loss as a table shows it: with the settings of the study, or with the settings that a search chose."""

    base: str
    """The name in the study: `triplet`, `triplet(margin=0.1)`, `my_loss.py:Pull`."""
    name: str
    """The name without settings: `triplet`. Claims and colours use it."""
    tuned: bool = False


BASELINE = Loss(UNTRAINED, UNTRAINED)
"""The same initial head, never trained."""

_NOTHING: Mapping[int, Record] = MappingProxyType({})


class StudyView:
    """One study, read once. Every result is computed when it is first needed, and then cached."""

    def __init__(
        self, results: Results, files: RunFiles | None = None, damage: tuple[str, ...] = ()
    ) -> None:
        self.results = results
        self.files = files
        """Other data of the finished runs in the folder; None if the results were not read from a folder."""
        self.damage = damage
        """One line for each damaged run; the run is also among the failures or the trials."""
        self.plan = results.plan
        self.assumptions = results.assumptions
        self.environment = results.environment
        self.left_out = results.left_out
        self.expected = results.expected
        self._names = _names_in_plan(results.plan)
        self._intervals: dict[tuple[str, Loss, str], Interval | None] = {}
        self._decisions: dict[tuple[str, str], Mapping[tuple[Loss, Loss], Decision]] = {}
        self._against: dict[tuple[str, str, Loss], Mapping[Loss, Decision]] = {}

    # what the study has

    @cached_property
    def typed_plan(self) -> PlanRecord:
        """The keys of `plan` that readers use, with their types. Raises InputError if one is missing."""
        try:
            return PlanRecord.model_validate(self.plan)
        except ValidationError as error:
            raise InputError(
                f"the plan of these results is not valid: {first_problem(error)}"
            ) from None

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Datasets with a run or a failure, in the order of the plan."""
        rows = [*self.results.summaries, *self.results.epochs, *self.results.failures]
        present = dict.fromkeys(str(row["dataset"]) for row in rows)
        planned = [str(name) for name in self.plan.get("datasets") or () if str(name) in present]
        return tuple(dict.fromkeys([*planned, *present]))

    @cached_property
    def measures(self) -> Measures:
        """Which columns the study has, and what they are called: of queries and documents, else of classes."""
        if not self.of_pairs:
            return OF_CLASSES
        rows = self.results.summaries
        return OF_PAIRS.among(
            {name for row in rows for name in row if known(row[name]) is not None}
        )

    @property
    def retrieval(self) -> tuple[Column, ...]:
        """The two columns of retrieval that losses are judged by: of queries and documents nDCG@10 and MRR@10, else R@1 and MAP@R."""
        return self.measures.headline

    @cached_property
    def of_pairs(self) -> bool:
        """Whether the study is of queries and documents."""
        rows = [*self.results.summaries, *self.results.references]
        if any(measures_of(row) is OF_PAIRS for row in rows):
            return True
        return any(map(names_pairs, self.plan.get("datasets") or ()))

    def name_of(self, reference: Record) -> str:
        """What a reader calls a reference space: of queries and documents, the frozen features are the raw model."""
        name = str(reference["reference"])
        return self.measures.raw if name == FROZEN else name

    @cached_property
    def absent_datasets(self) -> Mapping[str, str]:
        """Datasets of the plan that could not be read on this machine, and why."""
        return {
            str(row["dataset"]): str(row["reason"])
            for row in self.left_out
            if row.get("extent", "whole") == "whole"
        }

    @property
    def planned_names(self) -> Mapping[str, str]:
        """Title of each loss of the plan → its name without settings."""
        return self._names

    @cached_property
    def losses(self) -> tuple[Loss, ...]:
        """Losses with the settings of the plan that have a run or a failure, without the baseline.

        The seven losses of the paper come first, in its order; a loss with other settings follows the one with defaults. Of queries
        and documents, the best by `retrieval[0]` on the first dataset comes first.
        """
        losses = self._losses
        return tuple(self.ranked(self.datasets[0], losses) if self.datasets else losses)

    @cached_property
    def _losses(self) -> list[Loss]:
        """Those of `losses`, in the order of the paper."""
        present = {self.loss_of(row) for row in self._rows() if row["variant"] == "default"}
        return in_order(present - {BASELINE})

    @cached_property
    def tuned(self) -> tuple[Loss, ...]:
        """Tuned losses that have a run or a failure, in the same order."""
        tuned = in_order({self.loss_of(row) for row in self._rows() if row["variant"] == "tuned"})
        return tuple(self.ranked(self.datasets[0], tuned) if self.datasets else tuned)

    @cached_property
    def losses_and_tuned(self) -> tuple[Loss, ...]:
        """`losses`, with each tuned loss after its base loss."""
        losses = in_order({*self.losses, *self.tuned})
        return tuple(self.ranked(self.datasets[0], losses) if self.datasets else losses)

    def loss_of(self, row: Record) -> Loss:
        """The loss of a row of the variants `default` and `tuned`, by its base and its variant."""
        return self.planned_loss(row)._replace(tuned=row["variant"] == "tuned")

    def seeds(self, dataset: str) -> frozenset[int]:
        """Seeds of a dataset's losses, including those of failed and waiting runs."""
        rows = [*self.results.summaries, *self.results.failures, *self.results.waiting]
        return frozenset(
            int(row["seed"])
            for row in rows
            if row["dataset"] == dataset and row["variant"] in ("default", "tuned")
        )

    def settled_seeds(self, dataset: str) -> frozenset[int]:
        """Seeds that more than half of the losses have finished: a loss is ranked if it has them all.

        While a study runs, few losses may have its last seed.
        """
        of_seed: dict[int, set[Loss]] = {}
        for loss in self._losses:
            for seed in self.runs(dataset, loss):
                of_seed.setdefault(seed, set()).add(loss)
        losses = {loss for of_one in of_seed.values() for loss in of_one}
        return frozenset(seed for seed, of in of_seed.items() if 2 * len(of) > len(losses))

    # values

    def runs(self, dataset: str, loss: Loss) -> Mapping[int, Record]:
        """Seed → row of each finished run."""
        return self._runs.get((dataset, loss), _NOTHING)

    def epochs(self, dataset: str, loss: Loss) -> Sequence[Record]:
        """One row for each run and epoch; epoch 0 is before training."""
        return self._epochs.get((dataset, loss), ())

    def settled_runs(self, dataset: str, loss: Loss) -> Mapping[int, Record]:
        """Where runs are still to come, those of `settled_seeds`, so that losses are compared over the same seeds; else all.

        A study that was stopped has more seeds of its first losses. A loss with none of these seeds keeps what it has.
        """
        runs = self.runs(dataset, loss)
        if not any(row["dataset"] == dataset for row in self.results.waiting):
            return runs
        settled = runs.keys() & self.settled_seeds(dataset)
        return {seed: row for seed, row in runs.items() if seed in settled} if settled else runs

    def values(self, dataset: str, loss: Loss, column: str) -> dict[int, float | None]:
        """Seed → value of a column; None if a run does not have it. Raises InputError for an unknown column."""
        check_column(column)
        return {
            seed: known(row.get(column)) for seed, row in sorted(self.runs(dataset, loss).items())
        }

    def queries(self, run: str) -> pa.Table:
        """One row for each test query of a finished run, at its selected epoch; of a trial, none.

        It is read from the folder at each call and not kept, so that never all runs are in memory. Columns: `query` and
        `label`, and those of the queries in `columns`; rows ascend by `query`, the row in the dataset. Raises InputError
        if the study has no such run or was not read from a folder.
        """
        if self.files is None:
            raise InputError(
                "queries need the folder of a study, but these results were not read from one: use read_study"
            )
        return self.files.queries(run)

    def frozen_queries(self, dataset: str) -> pa.Table:
        """The same for the frozen features of a dataset, normalised: what a loss must beat, query by query."""
        if self.files is None or dataset not in self.datasets:
            raise InputError(
                f"the queries of frozen features need the folder of a study with the dataset {dataset!r}"
            )
        return self.files.frozen_queries(dataset)

    def interval(self, dataset: str, loss: Loss, column: str) -> Interval | None:
        """Mean and 95 % interval of a column over the `settled_runs` that have it; None without such a run.

        Over new seeds. Of queries and documents, retrieval is over new queries too where the runs kept them: the raw model, which
        no seed changes, then has an interval to be read beside it.
        """
        key = dataset, loss, column
        if key not in self._intervals:
            values = self.values(dataset, loss, column)
            settled = self.settled_runs(dataset, loss)
            level = self._compared.level(settled, column) if self.of_pairs else None
            self._intervals[key] = level or interval(values[seed] for seed in sorted(settled))
        return self._intervals[key]

    def reference_interval(self, dataset: str, reference: Record, column: str) -> Interval | None:
        """The value of a reference space; of queries and documents with its 95 % interval over new queries, where they were kept."""
        value = known(reference.get(column.removeprefix("test_")))
        if value is None:
            return None
        level = self._compared.level({0: reference}, column) if self.of_pairs else None
        return Interval(value, None, 0) if level is None else level._replace(size=0)

    def difference(self, dataset: str, left: Loss, right: Loss, column: str) -> Interval | None:
        """`left` − `right` in a column, as `contrast`; None if no shared seed has both values."""
        return self.contrast([self.runs(dataset, left)], [self.runs(dataset, right)], column)

    def contrast(self, left: Group, right: Group, column: str) -> Interval | None:
        """Mean of the losses of `left` − mean of those of `right`, paired by seed; None if no shared seed has all values.

        A loss is given by its runs, so that tuned and varied losses can be compared too. The interval is over new seeds
        and, for the columns of PER_QUERY and HIT_WITHIN, over new queries; with one seed, for these trained heads on new queries. InputError if
        two runs were asked different queries.
        """
        return self._compared.contrast(left, right, check_column(column))

    def answers(self, runs: Runs, column: str) -> LossAnswers | None:
        """The answers of the runs of one loss, by seed and query; None if they were not kept, or the column has none."""
        return self._compared.answers(runs, check_column(column))

    def decisions(self, dataset: str, column: str) -> Mapping[tuple[Loss, Loss], Decision]:
        """Every pair of losses that have a column in all seeds, in both orders, with what is decided about left − right.

        The pairs are one family: Holm's correction is over all of them.
        """
        key = dataset, column
        if key not in self._decisions:
            pairs = list(combinations(self.complete(dataset, self.losses, column), 2))
            family = [self.difference(dataset, *pair, column) for pair in pairs]
            found = dict(zip(pairs, decide(family, _margin(column)), strict=True))
            turned = {(right, left): of.turned for (left, right), of in found.items()}
            self._decisions[key] = {**found, **turned}
        return self._decisions[key]

    def decisions_against(self, dataset: str, column: str, loss: Loss) -> Mapping[Loss, Decision]:
        """Each other loss that has a column in all seeds, with what is decided about `loss` minus the other.

        They are one family; `candidates` needs no correction for all pairs.
        """
        key = dataset, column, loss
        if key not in self._against:
            others = [o for o in self.complete(dataset, self.losses, column) if o != loss]
            family = [self.difference(dataset, loss, other, column) for other in others]
            decided = decide(family, _margin(column))
            self._against[key] = dict(zip(others, decided, strict=True))
        return self._against[key]

    def candidates(self, dataset: str, column: str, *, highest: bool) -> list[Loss]:
        """The losses that may have the highest (or lowest) true mean: no other loss is clearly higher (or lower).

        Each loss is compared with all others as one family, so the truly best loss is among them with 95 % (multiple
        comparisons with the best, Hsu 1984, https://doi.org/10.1214/aos/1176346584).
        """
        out = "lower" if highest else "higher"
        return [
            loss
            for loss in self.complete(dataset, self.losses, column)
            if not any(
                of.side == out for of in self.decisions_against(dataset, column, loss).values()
            )
        ]

    def reference_runs(self, dataset: str, loss: Loss, reference: str) -> Mapping[int, Record]:
        """A reference space, which no seed changes, as runs with the seeds of a loss; empty if it was not measured."""
        rows = (row for row in self.references(dataset) if row["reference"] == reference)
        row = next(rows, None)
        return {} if row is None else dict.fromkeys(self.runs(dataset, loss), row)

    def complete(self, dataset: str, losses: Iterable[Loss], column: str) -> list[Loss]:
        """The losses that have a column in all `settled_seeds`. Only these are ranked."""
        settled = self.settled_seeds(dataset)
        values = {loss: self.values(dataset, loss, column) for loss in losses}
        return [
            loss for loss, of in values.items() if all(of.get(seed) is not None for seed in settled)
        ]

    def untrained(self, dataset: str) -> tuple[Loss, ...]:
        """The baseline, where a table needs it: before training, the head `residual` is the raw model, which is shown instead."""
        raw = any(row["reference"] == FROZEN for row in self.references(dataset))
        same = self.of_pairs and raw and self.plan.get("head") == "residual"
        return () if same or not self.runs(dataset, BASELINE) else (BASELINE,)

    def ranked(self, dataset: str, losses: Iterable[Loss]) -> list[Loss]:
        """`losses` in the order of a table: of queries and documents the best by `retrieval[0]` first, a tuned one after its default.

        Of classes as they come: in the order of the paper. A loss without a result comes last; of equal ones, the first given.
        """
        losses = list(losses)
        if not self.of_pairs:
            return losses
        places = {loss: place for place, loss in enumerate(losses)}
        means = {loss: self._mean(dataset, loss) for loss in losses}

        def key(loss: Loss) -> tuple[float, int, bool]:
            base = loss._replace(tuned=False)
            base = base if base in means else loss
            return -means[base], places[base], loss.tuned

        return sorted(losses, key=key)

    def _mean(self, dataset: str, loss: Loss) -> float:
        """By `retrieval[0]`; −1 without a result."""
        rows = self.settled_runs(dataset, loss).values()
        values = [known(row.get(self.retrieval[0].name)) for row in rows]
        found = [value for value in values if value is not None]
        return sum(found) / len(found) if found else -1.0

    def references(self, dataset: str) -> list[Record]:
        """Rows of the reference spaces: frozen features, random unit vectors, full collapse.

        Of queries and documents without the last: documents at one point have no order, so there is no retrieval to compare with.
        """
        return [
            row
            for row in self.results.references
            if row["dataset"] == dataset and not (self.of_pairs and row["reference"] == COLLAPSE)
        ]

    # failures and searches

    def failures(self, dataset: str) -> dict[Loss, list[Record]]:
        """Loss → rows of its failed runs, of the variants `default` and `tuned`."""
        failed: dict[Loss, list[Record]] = {}
        for row in self.results.failures:
            if row["dataset"] == dataset and row["variant"] in ("default", "tuned"):
                failed.setdefault(self.loss_of(row), []).append(row)
        return failed

    def trials(self, dataset: str) -> list[Record]:
        """Rows of the trials of all searches on a dataset."""
        return [row for row in self.results.trials if row["dataset"] == dataset]

    def searches(self, dataset: str) -> dict[Loss, Record]:
        """Loss as in the plan → the row of its search, if the search has ended."""
        rows = [row for row in self.results.tuned if row["dataset"] == dataset]
        return {self.planned_loss(row): row for row in rows}

    def check_one_split(self) -> None:
        """Raises InputError if rows of one dataset were measured on different splits."""
        first: dict[str, tuple[str, str]] = {}
        for row in [*self.results.summaries, *self.results.sensitivity]:
            if (fingerprint := row.get("fingerprint")) is None:
                continue
            name, run = str(row["dataset"]), str(row.get("run"))
            other, earlier = first.setdefault(name, (str(fingerprint), run))
            if other != str(fingerprint):
                raise InputError(
                    f"all runs of a dataset must use one split, but on {name!r} run {earlier!r} has the "
                    f"fingerprint {other[:12]} and run {run!r} has {str(fingerprint)[:12]}: "
                    "report them as two studies"
                )

    def portable(self) -> StudyView:
        """The same study, without folders of this machine in its texts."""
        return StudyView(portable_results(self.results), self.files, self.damage)

    @cached_property
    def _compared(self) -> Differences:
        return Differences(
            self.files, lambda dataset: [self.runs(dataset, loss) for loss in self.losses]
        )

    def _rows(self) -> Iterator[Record]:
        for rows in (self.results.summaries, self.results.epochs, self.results.failures):
            yield from rows

    @cached_property
    def _runs(self) -> dict[tuple[str, Loss], dict[int, Record]]:
        runs: dict[tuple[str, Loss], dict[int, Record]] = {}
        for row in self.results.summaries:
            runs.setdefault((str(row["dataset"]), self.loss_of(row)), {})[int(row["seed"])] = row
        return runs

    @cached_property
    def _epochs(self) -> dict[tuple[str, Loss], list[Record]]:
        epochs: dict[tuple[str, Loss], list[Record]] = {}
        for row in self.results.epochs:
            epochs.setdefault((str(row["dataset"]), self.loss_of(row)), []).append(row)
        return epochs

    def planned_loss(self, row: Record) -> Loss:
        """The loss of a row of any variant (for example a trial), with the settings of the plan."""
        base = str(row["base"])
        return Loss(base, self._names.get(base, base))


def _margin(column: str) -> float | None:
    return COLUMNS[column].margin if column in COLUMNS else None


def in_order(losses: Iterable[Loss]) -> list[Loss]:
    """The losses of the paper in its order, then other losses, then the baseline; a tuned loss follows its base."""
    places = {name: place for place, name in enumerate([*LOSSES, "", UNTRAINED])}
    return sorted(
        losses, key=lambda loss: (places.get(loss.name, len(LOSSES)), loss.base, loss.tuned)
    )


def _names_in_plan(plan: Record) -> dict[str, str]:
    """Title of a loss in the plan → its name."""
    losses = [LossPlan.model_validate(entry) for entry in plan.get("losses") or ()]
    return {loss.title: loss.name for loss in losses}
