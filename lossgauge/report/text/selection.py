"""Which epoch of a run counts, in words; and a warning where the test side picked it."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.report.naming import UNTRAINED
from lossgauge.results.columns import COLUMNS
from lossgauge.stats.intervals import known
from lossgauge.types import Results

WARNING = "Epochs were picked by their test result: these numbers are too good and must not be compared with honest ones."


class Selection(NamedTuple):
    rule: str
    """`last`, `best-validation` or `oracle`."""
    sentence: str
    flagged: bool
    """Whether the numbers are too good."""


def selection(results: Results) -> Selection:
    """The rule of the plan; `last` where it names none, and its own name where it is none that we know."""
    rule = str(results.plan.get("selection") or "last")
    if rule == "oracle":
        return Selection(rule, f"{WARNING}{_epochs(results)}", True)
    if rule == "best-validation":
        sentence = (
            f"Of each run, the epoch with the best {judged_by(results)} on a validation slice of the training side "
            f"counts.{_epochs(results)}"
        )
        return Selection(rule, sentence, False)
    if rule == "last":
        return Selection(rule, "Of each run, the last epoch counts.", False)
    return Selection(rule, f"Of each run, the epoch counts that the rule {rule} picks.", False)


def judged_by(results: Results) -> str:
    """What epochs and trials are judged by, as the tables call it."""
    column = str(results.plan.get("selection_metric") or "map_at_r")
    return COLUMNS[column].title if column in COLUMNS else column


def _epochs(results: Results) -> str:
    found = [
        epoch
        for row in results.summaries
        if row.get("loss") != UNTRAINED and (epoch := known(row.get("selected_epoch"))) is not None
    ]
    if not found:
        return ""
    return f" The epochs picked lie between {min(found):g} and {max(found):g}."
