"""The result of a study as a short table for a terminal: retrieval of each loss, and its difference from no training."""

from __future__ import annotations

from collections.abc import Iterator

from lossgauge.report.naming import display_name
from lossgauge.report.text.not_training import RAW_MODEL
from lossgauge.report.text.rankings import in_points
from lossgauge.results.run_files import CENTERED, FROZEN
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.number_format import rounded, shown_half_width
from lossgauge.terminal import wrapped

NAME, CELL = 24, 14
"""Widths of the columns: 24 + 4 × 14 = 80."""


def result_lines(view: StudyView) -> Iterator[str]:
    """For each dataset: retrieval in percent with their 95 % half widths, and both minus those of the untrained head."""
    titles = [column.title for column in view.retrieval]
    header = [f"{title} %" for title in titles] + [f"{title} gain" for title in titles]
    for dataset in view.datasets:
        losses = [loss for loss in (*view.losses_and_tuned, BASELINE) if view.runs(dataset, loss)]
        if not losses:
            continue
        yield ""
        yield _line(dataset, header)
        for loss in losses:
            yield _line(display_name(loss), _cells(view, dataset, loss))
        for row in view.references(dataset):
            if row["reference"] in (FROZEN, CENTERED):
                values = [known(row.get(column.name)) for column in view.retrieval]
                raw = view.of_pairs and row["reference"] == FROZEN
                name = RAW_MODEL if raw else row["reference"]
                yield _line(name, ["" if v is None else rounded(100 * v, 1) for v in values])
    if not view.results.summaries and view.results.failures:
        failures = view.results.failures
        count = "the only run" if len(failures) == 1 else f"all {len(failures):,} runs"
        yield from wrapped(f"{count} failed, so there is no result: {failures[0]['error']}")
    elif view.datasets:
        yield "gain: points above the untrained head; ±: 95 % intervals, of levels over seeds,"
        for over, datasets in _gains_are_over(view).items():
            yield from wrapped(f"of gains over {over}: {', '.join(datasets)}")


def _gains_are_over(view: StudyView) -> dict[str, list[str]]:
    """What the intervals of gains are over → the datasets where they are."""
    found: dict[str, list[str]] = {}
    for dataset in view.datasets:
        gains = (
            view.difference(dataset, loss, BASELINE, view.retrieval[0].name) for loss in view.losses
        )
        if first := next((gain for gain in gains if gain is not None), None):
            found.setdefault(first.over, []).append(dataset)
    return found


def _cells(view: StudyView, dataset: str, loss: Loss) -> list[str]:
    cells = [_level(view.interval(dataset, loss, column.name)) for column in view.retrieval]
    if loss == BASELINE:
        return cells
    gains = [view.difference(dataset, loss, BASELINE, column.name) for column in view.retrieval]
    return cells + ["" if gain is None else in_points(gain) for gain in gains]


def _level(of: Interval | None) -> str:
    if of is None:
        return "—"
    half = (
        "" if of.half_width is None else f" ± {shown_half_width(of.half_width, of.mean, 'percent')}"
    )
    return rounded(100 * of.mean, 1) + half


def _line(name: str, cells: list[str]) -> str:
    """A name that is too long is shortened in its middle."""
    if len(name) >= NAME:
        name = f"{name[: NAME // 2 - 1]}…{name[-(NAME - NAME // 2 - 2) :]}"
    return (name.ljust(NAME) + "".join(cell.rjust(CELL) for cell in cells)).rstrip()
