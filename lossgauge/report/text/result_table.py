"""The result of a study as a short table for a terminal: retrieval of each loss, and its difference from no training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossgauge.diagnostics.references import CENTERED, FROZEN
from lossgauge.report.naming import display_name
from lossgauge.report.text.rankings import in_points
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import rounded, shown_half_width
from lossgauge.terminal import wrapped

NAME, CELL = 24, 14
"""Widths of the columns: 24 + 4 × 14 = 80."""


def result_lines(view: StudyView) -> Iterator[str]:
    """For each dataset, in the order of the page: retrieval in percent with 95 % half widths, and what training gains.

    Gains are above the untrained head; of queries and documents above the raw model.
    """
    titles = [column.title for column in view.retrieval]
    header = [f"{title} %" for title in titles] + [f"{title} gain" for title in titles]
    finished = [
        dataset
        for dataset in view.datasets
        if any(view.runs(dataset, loss) for loss in (*view.losses_and_tuned, BASELINE))
    ]
    for dataset in finished:
        yield ""
        yield _line(dataset, header)
        losses = (*view.ranked(dataset, view.losses_and_tuned), *view.untrained(dataset))
        for loss in losses:
            if view.runs(dataset, loss):
                yield _line(display_name(loss), _cells(view, dataset, loss))
        for row in view.references(dataset):
            if row["reference"] in (FROZEN, CENTERED):
                levels = [view.reference_interval(dataset, row, c.name) for c in view.retrieval]
                yield _line(view.name_of(row), ["" if of is None else _level(of) for of in levels])
    if not view.results.summaries and view.results.failures:
        failures = view.results.failures
        count = "the only run" if len(failures) == 1 else f"all {len(failures):,} runs"
        yield from wrapped(f"{count} failed, so there is no result: {failures[0]['error']}")
    elif finished:
        if len(view.losses) > 1:
            yield "“clearly”, below: after the correction for all comparisons (Holm)"
        if view.of_pairs:  # levels and gains are over the same
            yield f"gain: points above the {view.measures.raw}; ±: 95 % intervals, each by itself"
        else:
            yield "gain: points above the untrained head; ±: 95 % intervals, of levels over seeds,"
        for over, datasets in _gains_are_over(view, finished).items():
            of = "" if view.of_pairs else "of gains "
            yield from wrapped(f"{of}over {over}: {', '.join(datasets)}")


def _gains_are_over(view: StudyView, datasets: Sequence[str]) -> dict[str, list[str]]:
    """What the intervals of gains are over → the datasets where they are."""
    found: dict[str, list[str]] = {}
    for dataset in datasets:
        gains = (_gain(view, dataset, loss, view.retrieval[0].name) for loss in view.losses)
        if first := next((gain for gain in gains if gain is not None), None):
            found.setdefault(first.over, []).append(dataset)
    return found


def _gain(view: StudyView, dataset: str, loss: Loss, column: str) -> Interval | None:
    if not view.of_pairs:
        return view.difference(dataset, loss, BASELINE, column)
    raw = view.reference_runs(dataset, loss, FROZEN)
    return view.contrast([view.settled_runs(dataset, loss)], [raw], column)


def _cells(view: StudyView, dataset: str, loss: Loss) -> list[str]:
    cells = [_level(view.interval(dataset, loss, column.name)) for column in view.retrieval]
    if loss == BASELINE:
        return cells
    gains = [_gain(view, dataset, loss, column.name) for column in view.retrieval]
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
