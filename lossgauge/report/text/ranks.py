"""The rank of each loss on each dataset, as an interval: what all pairs of losses together allow."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.report.naming import display_name
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.datasets import limit, rank_intervals


class Ranks(NamedTuple):
    title: str
    """Of the column."""
    datasets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Name of a loss, and its rank on each dataset: `1`, `2–4`; `—` where it was not measured in every seed."""
    limit: str
    """What so few datasets cannot show; empty from six."""


def ranks(view: StudyView) -> list[Ranks]:
    """One by each of the study's retrieval columns; none if no dataset has two losses that can be ranked."""
    return [found for column in view.retrieval if (found := _by(view, column.name)) is not None]


def _by(view: StudyView, column: str) -> Ranks | None:
    by_dataset = {dataset: _on(view, dataset, column) for dataset in view.datasets}
    if not any(by_dataset.values()):
        return None
    rows = [
        (display_name(loss), tuple(_cell(of.get(loss)) for of in by_dataset.values()))
        for loss in view.losses
    ]
    return Ranks(
        COLUMNS[column].title,
        view.datasets,
        tuple(rows),
        limit(sum(map(bool, by_dataset.values()))),
    )


def _on(view: StudyView, dataset: str, column: str) -> dict[Loss, tuple[int, int]]:
    """Empty below two losses, and with one seed, which leaves every pair open."""
    decisions = view.decisions(dataset, column)
    if all(decided.p_value is None for decided in decisions.values()):
        return {}
    return rank_intervals(decisions)


def _cell(of: tuple[int, int] | None) -> str:
    if of is None:
        return "—"
    return f"{of[0]}" if of[0] == of[1] else f"{of[0]}–{of[1]}"
