"""Two studies of the same data: what differs in their plans and versions, in their numbers, and in their verdicts.

Differences are the second study minus the first. docs/compare.md explains the pairing and the intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lossgauge.claims.across_studies import Verdicts, across_studies, plan_differences
from lossgauge.claims.own_claims import claims_of
from lossgauge.claims.records import all_records
from lossgauge.plan.claim import ClaimPlan
from lossgauge.portable import without_folders
from lossgauge.report.naming import display_name
from lossgauge.results.between_studies import (
    SAME_RUNS,
    Paired,
    SharedDataset,
    check_shared,
    difference,
    environment_differences,
    losses_of,
    shared_losses,
)
from lossgauge.results.columns import Column, group_of
from lossgauge.results.measures import OF_CLASSES, OF_PAIRS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.decisions import Decision, decide
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import rounded, shown_half_width
from lossgauge.terminal import wrapped
from lossgauge.types import Record

COMPARED = tuple(columns for of in (OF_CLASSES, OF_PAIRS) for columns in (of.retrieval, of.space))
"""The columns that are compared, a table for each group; a study has the first two or the last two."""

PAIRING: dict[Paired, str] = {
    "seeds and queries": "paired by seed and by query",
    "queries": "paired by query; the seeds differ",
    "seeds": "paired by seed",
    "nothing": "not paired",
}

_MARK = {"higher": "*", "lower": "*", "equivalent": "=", "open": ""}
_NAME, _CELL = 14, 17
"""Widths: a row of five numbers has 100 letters."""


class LossDifference(NamedTuple):
    """One column of one loss on one dataset, in the second study minus the first."""

    dataset: str
    loss: str
    """Its title in the first study; of another title in the second one, both."""
    column: str
    first: float | None
    """Mean over the seeds of the first study."""
    second: float | None
    interval: Interval | None
    """Of the difference; None if a study does not have the number."""
    paired: Paired
    decision: Decision
    """Corrected over all losses of the dataset in this column."""

    @property
    def plain(self) -> Record:
        """The numbers, as JSON can represent them."""
        of = self.interval
        return {
            **{
                name: getattr(self, name)
                for name in ("dataset", "loss", "column", "first", "second")
            },
            "difference": of and of.mean,
            "interval": None if of is None or of.half_width is None else [of.low, of.high],
            "paired": self.paired,
            "over": None if of is None or of.half_width is None else of.over,
            "approximate": of.approximate if of else "",
            "seeds": of and of.size,
            "queries": of.queries if of else 0,
            "p_value": of and of.p_value,
            "corrected_p_value": self.decision.p_value,
            "verdict": self.decision.side,
            "reason": self.decision.reason or (of.why_none if of else "not measured"),
        }


class StudyComparison(NamedTuple):
    """What two studies of the same data have in common, and what differs. `print` shows it."""

    studies: tuple[str, str]
    plan: Mapping[str, Sequence[str]]
    """Keys of the plans that differ → the value in each study."""
    versions: Mapping[str, Sequence[str]]
    """The same for versions, the machine and the code of the runs."""
    datasets: tuple[SharedDataset, ...]
    differences: tuple[LossDifference, ...]
    only: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
    """Dataset → losses that only this study has; of a dataset that the other study does not have, all its losses."""
    verdicts: tuple[Verdicts, ...]

    @property
    def changed(self) -> list[Verdicts]:
        """The verdicts that differ, of claims that both studies test."""
        return [row for row in self.verdicts if row.differs]

    @property
    def plain(self) -> Record:
        """Everything, as JSON can represent it."""
        return {
            "studies": list(self.studies),
            "plan": {key: list(values) for key, values in self.plan.items()},
            "versions": {key: list(values) for key, values in self.versions.items()},
            "datasets": [of._asdict() for of in self.datasets],
            "only": [{name: list(losses) for name, losses in of.items()} for of in self.only],
            "differences": [of.plain for of in self.differences],
            "verdicts": [
                {**row._asdict(), "of_studies": list(row.of_studies), "differs": row.differs}
                for row in self.verdicts
            ],
        }

    def lines(self) -> Iterator[str]:
        """As a terminal shows it."""
        yield from _heading(self)
        for shared in self.datasets:
            of_dataset = [of for of in self.differences if of.dataset == shared.first]
            yield ""
            yield from _dataset_lines(shared, of_dataset)
        yield ""
        yield from _verdict_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def compare(
    first: StudyView,
    second: StudyView,
    names: tuple[str, str],
    claims: Sequence[ClaimPlan] = (),
) -> StudyComparison:
    """The second study against the first. `claims` are tested beside those of the paper and of each study.

    Reads the queries of all runs that are compared. InputError if the studies share no dataset, or if one has runs of
    several splits.
    """
    shared = check_shared(first, second)
    views = (first, second)
    records = [all_records(view, claims_of(view, claims)) for view in views]
    found = [of for dataset in shared for of in _on(first, second, dataset)]
    return StudyComparison(
        names,
        plan_differences(views),
        environment_differences(views),
        tuple(shared),
        tuple(found),
        (_only(first, second, shared), _only(second, first, [_turned(of) for of in shared])),
        tuple(across_studies(records)),
    )


def _turned(shared: SharedDataset) -> SharedDataset:
    return shared._replace(first=shared.second, second=shared.first)


def _on(first: StudyView, second: StudyView, shared: SharedDataset) -> Iterator[LossDifference]:
    """Every column of every loss of both studies. The losses of one column are one family."""
    pairs = shared_losses(losses_of(first, shared.first), losses_of(second, shared.second))
    for column in (*first.measures.retrieval, *first.measures.space):
        found = [difference(first, second, shared, pair, column.name) for pair in pairs]
        decisions = decide([of.interval for of in found], column.margin)
        for pair, of, decision in zip(pairs, found, decisions, strict=True):
            one = first.interval(shared.first, pair[0], column.name)
            other = second.interval(shared.second, pair[1], column.name)
            yield LossDifference(
                shared.first,
                _title(*pair),
                column.name,
                one and one.mean,
                other and other.mean,
                of.interval,
                of.paired,
                decision,
            )


def _title(first: Loss, second: Loss) -> str:
    names = dict.fromkeys((display_name(first), display_name(second)))
    return " → ".join(names)


def _only(
    view: StudyView, other: StudyView, shared: Sequence[SharedDataset]
) -> dict[str, tuple[str, ...]]:
    theirs = {of.first: of.second for of in shared}
    found = {}
    for dataset in view.datasets:
        losses = losses_of(view, dataset)
        if dataset in theirs:
            pairs = shared_losses(losses, losses_of(other, theirs[dataset]))
            losses = [loss for loss in losses if loss not in {pair[0] for pair in pairs}]
        if losses:
            found[dataset] = tuple(map(display_name, losses))
    return found


# lines of a terminal


def _heading(of: StudyComparison) -> Iterator[str]:
    for number, name in enumerate(of.studies, start=1):
        yield from wrapped(f"{number}  {name}")
    differing = {**of.plan, **of.versions}
    for key, (one, other) in differing.items():
        yield from (f"   {line}" for line in wrapped(f"{key}: {one} in 1; {other} in 2"))
    if not differing:
        yield "   the plans, versions and code of the runs are the same"
    for number, only in enumerate(of.only, start=1):
        for dataset, losses in only.items():
            line = f"only in {number}: {', '.join(losses)} on {dataset}"
            yield from (f"   {part}" for part in wrapped(line))


def _dataset_lines(shared: SharedDataset, rows: Sequence[LossDifference]) -> Iterator[str]:
    name = shared.first if shared.first == shared.second else f"{shared.first} → {shared.second}"
    same = [loss for loss in dict.fromkeys(of.loss for of in rows) if _is_same(loss, rows)]
    rows = [of for of in rows if of.loss not in same]
    pairing = Counter(of.paired for of in rows if _is_retrieval(of) and of.interval)
    if not shared.same_rows:
        how = ", not paired: the two studies have other rows, labels or sides of the split"
    else:
        how = f", {PAIRING[pairing.most_common(1)[0][0]]}" if pairing else ""
    yield from wrapped(f"{name}: 2 minus 1{how}")
    if same:
        names = ", ".join(map(without_folders, same))
        yield from (f"  {line}" for line in wrapped(f"{SAME_RUNS}: {names}"))
    if rows:
        measured = {of.column for of in rows}
        for columns in COMPARED:
            if columns[0].name in measured:
                yield from _table(rows, columns)
    yield from _notes(rows)


def _is_same(loss: str, rows: Sequence[LossDifference]) -> bool:
    found = [of.interval for of in rows if of.loss == loss and of.interval is not None]
    return bool(found) and all(of.missing == SAME_RUNS for of in found)


def _is_retrieval(of: LossDifference) -> bool:
    return group_of(of.column) == "retrieval"


def _table(rows: Sequence[LossDifference], columns: Sequence[Column]) -> Iterator[str]:
    losses = dict.fromkeys(of.loss for of in rows)
    by_place = {(of.loss, of.column): of for of in rows}
    yield _row("", [f"{column.title}{_unit(column)}" for column in columns])
    for loss in losses:
        cells = [_cell(by_place[loss, column.name], column) for column in columns]
        yield from _named_row(without_folders(loss), cells)


def _unit(column: Column) -> str:
    return " pts" if column.unit == "percent" else ""


def _cell(of: LossDifference, column: Column) -> str:
    interval = of.interval
    if interval is None:
        return "–"
    if interval.missing == SAME_RUNS:
        return "same runs"
    points = column.unit == "percent"
    mean = rounded(interval.mean * (100 if points else 1), 1 if points else 3, signed=True)
    if interval.half_width is None:
        return mean
    # with the digits of a mean below 10
    half = shown_half_width(interval.half_width, 0.0, column.unit)
    return f"{mean} ± {half} {_MARK[of.decision.side]}".rstrip()


def _notes(rows: Sequence[LossDifference]) -> Iterator[str]:
    """What the intervals are over, what is approximate, and why a difference has none."""
    for what, of_kind in (
        ("retrieval", [of.interval for of in rows if _is_retrieval(of) and of.interval]),
        ("geometry", [of.interval for of in rows if not _is_retrieval(of) and of.interval]),
    ):
        over = dict.fromkeys(of.over for of in of_kind if of.half_width is not None)
        approximate = dict.fromkeys(of.approximate for of in of_kind if of.approximate)
        missing = dict.fromkeys(of.why_none for of in of_kind if of.half_width is None)
        missing.pop(SAME_RUNS, None)
        parts = [f"± is a 95 % interval over {'; or '.join(over)}"] if over else []
        parts += [f"approximate: {'; '.join(approximate)}"] if approximate else []
        parts += [f"without ±: {'; '.join(missing)}"] if missing else []
        if parts:
            yield from (f"  {line}" for line in wrapped(f"{what}: {'. '.join(parts)}."))


def _verdict_lines(of: StudyComparison) -> Iterator[str]:
    yield from wrapped(
        "* differs, and = is equivalent (within the margins of docs/claims.md), after Holm's correction over the losses of a "
        "dataset in one column. Without a mark nothing is decided. pts are points of a percentage."
    )
    tested = [row for row in of.verdicts if len(row.tested) == len(of.studies)]
    yield ""
    if not tested:
        yield "verdicts that changed: none, because no claim is tested in both studies"
        return
    yield f"verdicts that changed: {len(of.changed)} of {len(tested)} that both studies have"
    for row in of.changed:
        one, other = row.of_studies
        yield from wrapped(f"  {row.dataset}, claim {row.key}: {one} → {other}: {row.claim}")


def _named_row(name: str, cells: Sequence[str]) -> Iterator[str]:
    """A long name has a line of its own, so that the columns stay aligned."""
    lines = wrapped(name)
    if len(lines) > 1 or len(lines[0]) > _NAME - 2:
        yield from (f"  {line}" for line in lines)
        lines = [""]
    yield _row(lines[0], cells)


def _row(name: str, cells: Sequence[str]) -> str:
    return (f"  {name:{_NAME}}" + "".join(f"{cell:{_CELL}}" for cell in cells)).rstrip()
