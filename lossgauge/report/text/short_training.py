"""Which losses of a study were trained too little to say that training does not help: one rule for every answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from lossgauge.health.finding import Finding
from lossgauge.health.short_training import Trained, too_little_training
from lossgauge.report.text.not_training import Compared
from lossgauge.results.columns import COLUMNS, SETTING
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import known
from lossgauge.types import Record


def of_loss(view: StudyView, dataset: str, loss: Loss, of: Compared) -> Finding | None:
    """The finding about one loss; None if it was trained long enough, or if that is not known."""
    runs = view.settled_runs(dataset, loss)
    if not runs:
        return None
    rows = [row for row in view.epochs(dataset, loss) if int(row["seed"]) in runs]
    by_seed = [[row for row in rows if int(row["seed"]) == seed] for seed in runs]
    planned = {int(row.get("epochs") or 0) for row in runs.values()}
    no_decay = any(row.get("no_decay") for row in runs.values())
    return too_little_training(
        Trained(
            subject=loss.base,
            title=of.title,
            curve=_curve(rows, of.column),
            curves=[_curve(of_seed, of.column) for of_seed in by_seed],
            reference=max(of.levels.values()),
            margin=COLUMNS[of.column].margin or 0.0,
            epochs=min(planned),
            steps=_steps(view, runs.values()),
            losses=[] if no_decay else list(_curve(rows, "loss_value").values()),
            learning_rate=known(next(iter(runs.values())).get(f"{SETTING}learning_rate")),
        )
    )


def of_the_best(view: StudyView, dataset: str, of: Compared) -> str:
    """Whether the loss with the highest mean was trained too little, which leaves the answer open: the evidence, and the setting to change.

    `3 steps of the optimiser in 3 epochs with mnrl; set epochs: 50`; empty if it was trained long enough, or is better than not training.
    """
    best = max(of.means, key=lambda loss: of.means[loss])
    found = None if of.gain(best) == "better" else of_loss(view, dataset, best, of)
    return (
        "" if found is None else f"{found.evidence} with {best.name}; set {found.advice.strip('`')}"
    )


def _curve(rows: Sequence[Record], column: str) -> dict[int, float]:
    """Epoch → mean of a column over the rows that have it, ascending."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if (value := known(row.get(column))) is not None:
            values.setdefault(int(row["epoch"]), []).append(value)
    return {epoch: fmean(of) for epoch, of in sorted(values.items())}


def _steps(view: StudyView, rows: Iterable[Record]) -> int | None:
    """Updates of the run that has the fewest; None if not known."""
    if view.files is None:
        return None
    counts = [view.files.step_count(str(row["run"])) for row in rows]
    return min((count for count in counts if count is not None), default=None)
