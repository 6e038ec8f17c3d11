"""Tables loss × column: mean and interval over seeds, below them the baseline and the references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lossgauge.report.naming import color_of, display_name, symbol_of
from lossgauge.report.text.not_training import Compared, compared
from lossgauge.results.columns import Column
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import known
from lossgauge.stats.number_format import rounded, shown, shown_half_width
from lossgauge.types import Record

NOT_KNOWN = "—"
NOT_REACHED = "not reached"
NOT_DEFINED = "not defined"
_DECAYS = ("decay_epochs", "floor_decay_epochs")
_MAY_NOT_BE_REACHED = ("decay_epochs", "floor_decay_epochs", "compaction_epochs")


class Cell(NamedTuple):
    text: str
    detail: str = ""
    """The interval, or why it has none."""
    leads: bool = False
    """Whether it is the best mean of its column, or not clearly different from it."""
    value: float | None = None
    """What a sorted column is sorted by; None where there is no number."""


class Row(NamedTuple):
    kind: Literal["loss", "failed", "baseline", "reference"]
    name: str
    color: str
    settings: str
    failure: str
    """Seeds that failed, and why; empty where none did."""
    cells: tuple[Cell, ...]
    """One for each column; empty in a failed row."""
    loss: Loss | None = None
    """None in the row of a reference."""
    symbol: str = "circle"
    """The mark of the loss in the charts."""

    @property
    def tuned(self) -> bool:
        return self.loss is not None and self.loss.tuned


class Table(NamedTuple):
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


class Overview(NamedTuple):
    datasets: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    """Cells of the first dataset, then of the second, and so on."""


def loss_table(
    view: StudyView, dataset: str, columns: Sequence[Column], *, title: str = ""
) -> Table:
    """Losses × `columns` on one dataset in the order of `ranked`, each before its tuned form, then the baseline, then the references.

    Tuned losses do not lead: they are compared with their own defaults, not with losses that are not tuned.
    """
    leaders = {column.name: _leaders(view, dataset, column) for column in columns}
    failures = failures_in_words(view, dataset)
    seeds = len(view.seeds(dataset))
    rows = []
    for loss in [*view.ranked(dataset, view.losses_and_tuned), *view.untrained(dataset)]:
        name, color = display_name(loss), color_of(loss, view.losses)
        symbol = symbol_of(loss, view.losses)
        failure = failures.get(loss, "")
        if not view.runs(dataset, loss):
            if failure:
                rows.append(Row("failed", name, color, "", failure, (), loss, symbol))
            continue
        cells = tuple(
            _cell(view, dataset, loss, column, loss in leaders[column.name], seeds)
            for column in columns
        )
        if loss == BASELINE and all(cell.text == NOT_KNOWN for cell in cells):
            continue
        kind: Literal["loss", "baseline"] = "baseline" if loss == BASELINE else "loss"
        settings = _settings(view, dataset, loss)
        rows.append(Row(kind, name, color, settings, failure, cells, loss, symbol))
    for reference in view.references(dataset):
        cells = tuple(_reference_cell(view, dataset, reference, column) for column in columns)
        if any(
            cell.text != NOT_KNOWN for cell in cells
        ):  # a space without training has no dynamics
            rows.append(Row("reference", view.name_of(reference), "", "", "", cells))
    return Table(title, tuple(columns), tuple(rows))


def gain_table(
    view: StudyView, dataset: str, columns: Sequence[Column], *, title: str = ""
) -> Table:
    """Losses × `columns`: the difference from the raw features in points, with its interval and what is decided.

    Corrected over all losses of the dataset in a column. Losses that are clearly better are bold.
    """
    raw = view.measures.raw
    rows = []
    for losses in (view.losses, view.tuned):
        by_column = [compared(view, dataset, column.name, losses) for column in columns]
        for loss in losses:
            cells = tuple(_gain(of, loss, raw) for of in by_column)
            if any(cell.value is not None for cell in cells):
                look = display_name(loss), color_of(loss, view.losses)
                symbol = symbol_of(loss, view.losses)
                rows.append(Row("loss", *look, "", "", cells, loss, symbol))
    by_loss = {row.loss: row for row in rows}
    order = view.ranked(dataset, [row.loss for row in rows if row.loss])
    return Table(title, tuple(columns), tuple(by_loss[loss] for loss in order))


def _gain(of: Compared | None, loss: Loss, raw: str) -> Cell:
    if of is None or (over := of.differences.get((loss, raw))) is None:
        return Cell(NOT_KNOWN)
    side = of.decisions[loss, raw].side if (loss, raw) in of.decisions else "open"
    text = rounded(100 * over.mean, 1, signed=True)
    if over.half_width is None:
        return Cell(text, over.why_none, value=over.mean)
    half = f"± {shown_half_width(over.half_width, over.mean, 'percent')}"
    worse = ", worse" if side == "lower" else ""
    return Cell(text, f"{half}{worse}", side == "higher", over.mean)


def overview(view: StudyView, columns: Sequence[Column]) -> Overview:
    """Losses and the baseline × datasets, in the few columns that answer first."""
    by_dataset = [
        {row.loss: row for row in loss_table(view, dataset, columns).rows}
        for dataset in view.datasets
    ]
    rows = []
    for loss in [*view.losses, BASELINE]:
        of_loss = [rows_of.get(loss) for rows_of in by_dataset]
        first = next((row for row in of_loss if row is not None), None)
        if first is None:
            continue
        cells = [
            row.cells
            if row and row.cells
            else (Cell("failed" if row else NOT_KNOWN),) * len(columns)
            for row in of_loss
        ]
        rows.append(first._replace(cells=tuple(cell for part in cells for cell in part)))
    return Overview(view.datasets, tuple(columns), tuple(rows))


def failures_in_words(view: StudyView, dataset: str) -> dict[Loss, str]:
    """Loss → what went wrong in its runs, in one line."""
    return {
        loss: "; ".join(
            f"seed {row.get('seed')} failed: {row.get('error') or 'no reason was recorded'}"
            for row in rows
        )
        for loss, rows in view.failures(dataset).items()
    }


def _cell(
    view: StudyView, dataset: str, loss: Loss, column: Column, leads: bool, seeds: int
) -> Cell:
    """Of `seeds` that the dataset has."""
    values = view.values(dataset, loss, column.name)
    interval = view.interval(dataset, loss, column.name)
    can_miss = column.name in _MAY_NOT_BE_REACHED and loss != BASELINE
    if interval is None:
        # a black box whose value is not known has no decay either
        measured = view.interval(dataset, loss, "loss_value") is not None
        reason = _why_no_decay(view, dataset, loss) if column.name in _DECAYS else ""
        if reason:
            return Cell(NOT_DEFINED, reason)
        return Cell(NOT_REACHED if can_miss and measured else NOT_KNOWN)
    text = shown(interval.mean, column.unit)
    size = interval.size
    if can_miss and size < len(values):
        return Cell(text, f"reached in {size} of {len(values)} seeds", leads, interval.mean)
    of_all = f"{size} of {seeds} seeds" if size < seeds else ""
    if interval.half_width is None:
        why = interval.why_none if size > 1 or not of_all else ""
        return Cell(text, ", ".join(filter(None, (why, of_all))), leads, interval.mean)
    half = shown_half_width(interval.half_width, interval.mean, column.unit)
    return Cell(text, ", ".join(filter(None, (f"± {half}", of_all))), leads, interval.mean)


def _why_no_decay(view: StudyView, dataset: str, loss: Loss) -> str:
    """Why the loss has no decay, from its first run that says so."""
    reasons = (str(row.get("no_decay") or "") for row in view.runs(dataset, loss).values())
    return next(filter(None, reasons), "")


def _reference_cell(view: StudyView, dataset: str, reference: Record, column: Column) -> Cell:
    over = view.reference_interval(dataset, reference, column.name)
    if over is None:
        return Cell(NOT_KNOWN)
    half = over.half_width
    detail = "" if half is None else f"± {shown_half_width(half, over.mean, column.unit)}"
    return Cell(shown(over.mean, column.unit), detail, value=over.mean)


def _settings(view: StudyView, dataset: str, loss: Loss) -> str:
    """The settings of a loss in words; several where its runs differ in them."""
    if loss == BASELINE:
        return ""
    texts = (
        ", ".join(filter(None, (str(row.get("settings") or ""), _own_rate(view, row))))
        for row in view.runs(dataset, loss).values()
    )
    return "; ".join(dict.fromkeys(filter(None, texts)))


def _own_rate(view: StudyView, row: Record) -> str:
    """The learning rate, where it is not the study's."""
    rate = known(row.get("setting_learning_rate"))
    is_own = rate is not None and rate != view.plan.get("learning_rate")
    return f"learning_rate={rate:.4g}" if is_own else ""


def _leaders(view: StudyView, dataset: str, column: Column) -> set[Loss]:
    """The best loss by mean and all without a clear difference from it; with one seed, none.

    Only losses that have every seed: a mean over other seeds cannot be compared.
    """
    if column.better is None:
        return set()
    means = {
        loss: interval.mean
        for loss in view.complete(dataset, view.losses, column.name)
        if (interval := view.interval(dataset, loss, column.name))
    }
    if len(means) < 2:
        return set()
    best = (max if column.better == "higher" else min)(means, key=lambda loss: means[loss])
    of_best = view.interval(dataset, best, column.name)
    if of_best is None or of_best.size == 1:
        return set()
    return {best, *view.candidates(dataset, column.name, highest=column.better == "higher")}
