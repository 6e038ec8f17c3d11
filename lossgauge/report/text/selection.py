"""Which epoch of a run counts, in words; and a warning where the test side picked it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import known
from lossgauge.stats.number_format import counted

WARNING = "Epochs were selected by their result on the test side: these numbers are too good, so do not compare them with others."


class Selection(NamedTuple):
    rule: str
    """`last`, `best-validation` or `oracle`."""
    sentence: str
    flagged: bool
    """Whether the numbers are too good."""


def selection(view: StudyView) -> Selection:
    """The rule of the plan; `last` where it names none, and its own name where we do not know it."""
    rule = str(view.plan.get("selection") or "last")
    if rule == "oracle":
        return Selection(rule, f"{WARNING}{_epochs(view)}", True)
    side = "queries" if view.of_pairs else "side"
    if rule == "best-validation":
        sentence = (
            f"The epoch of each run with the best {judged_by(view)} on a validation slice of the training {side} "
            f"counts.{_epochs(view)}"
        )
        return Selection(rule, sentence, False)
    if rule == "last":
        return Selection(rule, "The last epoch of each run counts.", False)
    return Selection(rule, f"The epoch of each run that the rule {rule} picks counts.", False)


def judged_by(view: StudyView) -> str:
    """What epochs and trials are judged by, as the tables call it."""
    column = str(view.plan.get("selection_metric") or view.measures.predicted)
    return COLUMNS[column].title if column in COLUMNS else column


def _epochs(view: StudyView) -> str:
    epochs = [
        epoch
        for dataset in view.datasets
        for loss in view.losses_and_tuned
        for epoch in selected_epochs(view, dataset, loss)
    ]
    if not epochs:
        return ""
    words = f" The epochs picked lie between {min(epochs):g} and {max(epochs):g}."
    if at_start := epochs.count(0):
        words += f" In {at_start:,} of {counted(len(epochs), 'run')} it is epoch 0, the raw model: no later epoch was better there."
    return words


def selected_epochs(view: StudyView, dataset: str, loss: Loss) -> list[float]:
    """The epoch that counts of each run, where it is known."""
    rows = view.settled_runs(dataset, loss).values()
    return [epoch for row in rows if (epoch := known(row.get("selected_epoch"))) is not None]


def picks_the_start(view: StudyView, dataset: str, losses: Iterable[Loss]) -> bool:
    """Whether every run of these losses counts with epoch 0: on the validation slice, training made nothing better."""
    epochs = [epoch for loss in losses for epoch in selected_epochs(view, dataset, loss)]
    return bool(epochs) and not any(epochs)
