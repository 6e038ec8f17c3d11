"""Tables loss × metric from flat rows: mean and interval over seeds, the baseline and the references below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lossgauge.claims.variants import variant_of
from lossgauge.errors import InputError
from lossgauge.report.contents import datasets_of, losses_of, seeds_of, settled_seeds
from lossgauge.report.naming import UNTRAINED, color_of, display_name, is_tuned, loss_order
from lossgauge.results.columns import Column
from lossgauge.stats.intervals import Interval, interval, known, paired_difference
from lossgauge.stats.number_format import shown, shown_half_width
from lossgauge.types import Record, Results

NOT_KNOWN = "—"
NOT_REACHED = "not reached"
_MAY_NOT_BE_REACHED = ("decay_epochs", "floor_decay_epochs", "compaction_epochs")


class Cell(NamedTuple):
    text: str
    detail: str = ""
    """The interval, or why there is none."""
    leads: bool = False
    """Best mean of its column, or not resolved from it by paired seeds."""


class Row(NamedTuple):
    kind: Literal["loss", "failed", "baseline", "reference"]
    name: str
    color: str
    settings: str
    failure: str
    """Seeds that failed, and why; empty where none did."""
    cells: tuple[Cell, ...]
    """One a metric; none in a failed row."""
    loss: str = ""
    """The loss by its full name: two files may show the same one."""
    tuned: bool = False


class Table(NamedTuple):
    title: str
    metrics: tuple[Column, ...]
    rows: tuple[Row, ...]


class Overview(NamedTuple):
    datasets: tuple[str, ...]
    metrics: tuple[Column, ...]
    rows: tuple[Row, ...]
    """Cells of the first dataset, then of the second, and so on."""


def check_fingerprints(results: Results) -> None:
    """Nothing, or InputError where rows of one dataset were measured on different splits."""
    first: dict[str, tuple[str, str]] = {}
    for row in [*results.summaries, *results.sensitivity]:
        fingerprint = row.get("fingerprint")
        if fingerprint is None:
            continue
        name, run = str(row["dataset"]), str(row.get("run"))
        other, earlier = first.setdefault(name, (str(fingerprint), run))
        if other != str(fingerprint):
            raise InputError(
                f"rows of one dataset must share one split, but on {name!r} run {earlier!r} has the "
                f"fingerprint {other[:12]} and run {run!r} has {str(fingerprint)[:12]}; "
                "report them as two studies"
            )


def by_seed(rows: Sequence[Record], dataset: str, loss: str, column: str) -> dict[int, object]:
    """Seed → value of a column, None where a run does not know it."""
    return {
        int(row["seed"]): row.get(column)
        for row in rows
        if row["dataset"] == dataset and row["loss"] == loss
    }


def measured(results: Results, dataset: str, loss: str, column: str) -> Interval | None:
    """Mean and interval of a summary column over the seeds that know it; None where none does."""
    return interval(by_seed(results.summaries, dataset, loss, column).values())


def complete(results: Results, dataset: str, losses: Sequence[str], column: str) -> list[str]:
    """Those of `losses` that know a column in every seed that most losses have finished: the others lead nothing."""
    settled = settled_seeds(results, dataset)
    values = {loss: by_seed(results.summaries, dataset, loss, column) for loss in losses}
    return [
        loss
        for loss in losses
        if all(known(values[loss].get(seed)) is not None for seed in settled)
    ]


def loss_table(
    results: Results, dataset: str, metrics: Sequence[Column], *, title: str = ""
) -> Table:
    """Losses × `metrics` on one dataset, each before its tuned form, then `untrained`, then the references.

    Tuned losses do not lead: they are held against their own defaults, not against untuned losses.
    Raises InputError where the rows come from different splits.
    """
    check_fingerprints(results)
    seeds = len(seeds_of(results, dataset))
    leaders = {metric.name: _leaders(results, dataset, metric) for metric in metrics}
    failed = failures_of(results, dataset)
    finished = {str(r["loss"]) for r in results.summaries if r["dataset"] == dataset}
    rows = []
    for loss in loss_order(finished | failed.keys()):
        color, name = color_of(loss, losses_of(results)), display_name(loss)
        if loss not in finished:
            rows.append(Row("failed", name, color, "", failed[loss], (), loss, is_tuned(loss)))
            continue
        cells = tuple(
            _cell(results, dataset, loss, metric, loss in leaders[metric.name], seeds)
            for metric in metrics
        )
        if loss == UNTRAINED and all(cell.text == NOT_KNOWN for cell in cells):
            continue
        kind: Literal["loss", "baseline"] = "baseline" if loss == UNTRAINED else "loss"
        settings = _settings(results, dataset, loss)
        rows.append(
            Row(kind, name, color, settings, failed.get(loss, ""), cells, loss, is_tuned(loss))
        )
    for reference in results.references:
        if reference["dataset"] == dataset:
            cells = tuple(_reference_cell(reference, metric) for metric in metrics)
            if all(cell.text == NOT_KNOWN for cell in cells):
                continue  # dynamics: a space that was never trained has none
            rows.append(Row("reference", str(reference["reference"]), "", "", "", cells))
    return Table(title, tuple(metrics), tuple(rows))


def overview(results: Results, metrics: Sequence[Column]) -> Overview:
    """Losses and the baseline × datasets, in the few numbers that answer first."""
    datasets = datasets_of(results)
    found = {
        dataset: {row.loss: row for row in loss_table(results, dataset, metrics).rows}
        for dataset in datasets
    }
    rows = []
    for loss in [*losses_of(results), UNTRAINED]:
        present = [found[dataset].get(loss) for dataset in datasets]
        known_rows = [row for row in present if row is not None]
        if not known_rows:
            continue
        cells = [
            row.cells
            if row and row.cells
            else (Cell("failed" if row else NOT_KNOWN),) * len(metrics)
            for row in present
        ]
        rows.append(known_rows[0]._replace(cells=tuple(cell for part in cells for cell in part)))
    return Overview(tuple(datasets), tuple(metrics), tuple(rows))


def failures_of(results: Results, dataset: str) -> dict[str, str]:
    """Loss, as in the plan or tuned, → what went wrong in its runs, in one line."""
    errors: dict[str, list[str]] = {}
    for row in results.failures:
        if row["dataset"] == dataset and variant_of(row) in ("default", "tuned"):
            errors.setdefault(str(row["loss"]), []).append(
                f"seed {row.get('seed')} failed: {row.get('error') or 'no reason was recorded'}"
            )
    return {loss: "; ".join(lines) for loss, lines in errors.items()}


def _cell(
    results: Results, dataset: str, loss: str, metric: Column, leads: bool, count: int
) -> Cell:
    """Of `count` seeds that the dataset has."""
    values = by_seed(results.summaries, dataset, loss, metric.name)
    over_seeds = interval(values.values())
    can_miss = metric.name in _MAY_NOT_BE_REACHED and loss != UNTRAINED
    if over_seeds is None:
        # a black box has no decay at all when its loss is not known either
        asked = any(known(v) is not None for v in _loss_values(results, dataset, loss))
        return Cell(NOT_REACHED if can_miss and asked else NOT_KNOWN)
    text = shown(over_seeds.mean, metric.unit)
    size = over_seeds.size
    if can_miss and size < len(values):
        return Cell(text, f"reached in {size} of {len(values)} seeds", leads)
    of_all = f"{size} of {count} seeds" if size < count else ""
    if over_seeds.half_width is None:
        why = over_seeds.why_none if size > 1 or not of_all else ""
        return Cell(text, ", ".join(filter(None, (why, of_all))), leads)
    half = shown_half_width(over_seeds.half_width, over_seeds.mean, metric.unit)
    return Cell(text, ", ".join(filter(None, (f"± {half}", of_all))), leads)


def _loss_values(results: Results, dataset: str, loss: str) -> list[object]:
    return list(by_seed(results.summaries, dataset, loss, "loss_value").values())


def _reference_cell(reference: Record, metric: Column) -> Cell:
    value = known(reference.get(metric.name.removeprefix("test_")))
    return Cell(NOT_KNOWN if value is None else shown(value, metric.unit))


def _settings(results: Results, dataset: str, loss: str) -> str:
    rows = (r for r in results.summaries if r["dataset"] == dataset and r["loss"] == loss)
    told = (
        [str(r.get("settings") or ""), *_own_rate(r, results.plan)]
        for r in rows
        if loss != UNTRAINED
    )
    return "; ".join(
        dict.fromkeys(words for one in told if (words := ", ".join(filter(None, one))))
    )


def _own_rate(row: Record, plan: Record) -> list[str]:
    """The learning rate, where it is not the study's."""
    rate = known(row.get("setting_learning_rate"))
    return (
        [] if rate is None or rate == plan.get("learning_rate") else [f"learning_rate={rate:.4g}"]
    )


def _leaders(results: Results, dataset: str, metric: Column) -> set[str]:
    """The best loss by mean and all that paired seeds cannot tell from it; with one seed, none.

    Of the losses that have every seed: the mean over other seeds is another thing.
    """
    if metric.better is None:
        return set()
    seeds = {
        loss: by_seed(results.summaries, dataset, loss, metric.name)
        for loss in complete(results, dataset, losses_of(results), metric.name)
    }
    means = {loss: over for loss, values in seeds.items() if (over := interval(values.values()))}
    if len(means) < 2:
        return set()
    sign = 1 if metric.better == "higher" else -1
    best = max(means, key=lambda loss: sign * means[loss].mean)
    if means[best].size == 1:
        return set()
    differences = {loss: paired_difference(seeds[best], seeds[loss]) for loss in means}
    return {loss for loss, d in differences.items() if d is None or not d.excludes_zero} | {best}
