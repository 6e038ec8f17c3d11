"""Tuned and default: what each loss gained from a search of its settings, and how the ranking changed."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from lossgauge.report.naming import color_of, display_name, listed, symbol_of
from lossgauge.report.tables import NOT_KNOWN, Cell, failures_in_words
from lossgauge.report.text.findings import TopicAnswer
from lossgauge.report.text.rankings import in_points
from lossgauge.report.text.selection import judged_by, selection
from lossgauge.results.columns import COLUMNS, Column
from lossgauge.results.view import Loss, StudyView, in_order
from lossgauge.stats.decisions import Decision, decide
from lossgauge.stats.intervals import Interval, known, rank_correlation
from lossgauge.stats.number_format import counted, rounded, shown, shown_interval
from lossgauge.types import Record

ALIKE = "no clear difference"


class TunedRow(NamedTuple):
    name: str
    color: str
    symbol: str
    cells: tuple[Cell, ...]
    """Default → tuned of each of `COMPARED`, then of the objective; empty where no tuned run finished."""
    trials: str
    settings: str
    failure: str


class Tuning(NamedTuple):
    dataset: str
    columns: tuple[Column, ...]
    objective: str
    """What trials were judged by."""
    rows: tuple[TunedRow, ...]
    sentences: tuple[str, ...]


def tuning(view: StudyView, dataset: str) -> Tuning | None:
    """Default against tuned on one dataset; None where nothing was tuned there."""
    failures, searches = failures_in_words(view, dataset), view.searches(dataset)
    tuned = {loss for loss in view.tuned if view.runs(dataset, loss) or loss in failures}
    losses = view.ranked(dataset, in_order({_default(loss) for loss in tuned} | searches.keys()))
    if not losses:
        return None
    rows = tuple(
        _row(view, dataset, loss, searches.get(loss, {}), failures.get(_tuned(loss), ""))
        for loss in losses
    )
    columns = tuple(COLUMNS[column] for column in compared(view))
    objective = f"{judged_by(view)} on validation"
    return Tuning(dataset, columns, objective, rows, _sentences(view, dataset))


def compared(view: StudyView) -> tuple[str, ...]:
    """Columns in which default and tuned are compared: what was searched for comes first."""
    searched = str(view.plan.get("selection_metric") or view.retrieval[1].name)
    columns = [column.name for column in view.retrieval[::-1]]
    return tuple(sorted(columns, key=lambda column: column != searched))


def budget(view: StudyView) -> str:
    """What each search could spend, and what it was judged by; empty where the plan does not say."""
    tune = view.plan.get("tune")
    if not isinstance(tune, dict) or known(tune.get("trials")) is None:
        return ""
    of_runs = view.plan.get("epochs")
    epochs = tune.get("epochs") or of_runs
    of_epochs = f" of {epochs} epochs" if epochs else ""
    by = {"tpe": ", drawn by TPE", "random": ", drawn at random"}.get(str(tune.get("sampler")), "")
    share = known(view.plan.get("validation_share"))
    slice_of = f" ({100 * share:.0f} %)" if share else ""
    text = (
        f"Each loss had the same budget: {tune['trials']} trials{of_epochs}{by}, judged by "
        f"{judged_by(view)} on a validation slice{slice_of} of the training side. The first trial is the loss "
        "as in the plan. "
    )
    if epochs != of_runs:
        text += (
            f"Trials had {epochs} epochs and the runs {of_runs}: the best settings of a short training may not be the "
            "best of a long one, above all the learning rate. "
        )
    if selection(view).flagged:
        return text + (
            "The search did not use the test side, but the final runs with the chosen settings did: their epochs were "
            "selected on it."
        )
    return text + (
        "The search did not use the test side, and the numbers here are of new runs with the chosen settings."
    )


def tuned_finding(view: StudyView, dataset: str) -> TopicAnswer | None:
    """What tuning changed, as one of the answer's topics; None where no tuned run finished."""
    sentences = _sentences(view, dataset)
    if not sentences:
        return None
    parts = []
    for column in compared(view):
        gaps = _gaps(view, dataset, column)
        values = ", ".join(f"{display_name(loss)} {in_points(gap)}" for loss, gap in gaps.items())
        parts.append(f"{COLUMNS[column].title}: {values}")
    evidence = "tuned minus default, in points: " + "; ".join(parts)
    return TopicAnswer("Tuned", " ".join(sentences), evidence)


def _tuned(loss: Loss) -> Loss:
    return loss._replace(tuned=True)


def _default(loss: Loss) -> Loss:
    return loss._replace(tuned=False)


def _row(view: StudyView, dataset: str, loss: Loss, search: Record, failure: str) -> TunedRow:
    color, symbol = color_of(loss, view.losses), symbol_of(loss, view.losses)
    name = display_name(loss)
    made, failed = known(search.get("trials")), known(search.get("failed"))
    trials = (
        NOT_KNOWN if made is None else f"{made:.0f}" + (f", {failed:.0f} failed" if failed else "")
    )
    settings = str(search.get("settings") or "")
    if search.get("trial") == 0:
        settings = f"as in the plan: {settings}" if settings else "as in the plan"
    failure = str(search.get("error") or "") or failure
    if view.interval(dataset, _tuned(loss), view.retrieval[0].name) is None:
        return TunedRow(
            name, color, symbol, (), trials, settings, failure or "no tuned run finished"
        )
    cells = [_moved(view, dataset, loss, COLUMNS[column]) for column in compared(view)]
    return TunedRow(name, color, symbol, (*cells, _objective(search)), trials, settings, failure)


def _moved(view: StudyView, dataset: str, loss: Loss, column: Column) -> Cell:
    """`91.2 % → 92.0 %`, and below it the paired difference."""
    sides = [view.interval(dataset, side, column.name) for side in (loss, _tuned(loss))]
    text = " → ".join(
        NOT_KNOWN if interval is None else shown_interval(interval, column.unit)
        for interval in sides
    )
    gap = view.difference(dataset, _tuned(loss), loss, column.name)
    if gap is None:
        return Cell(text, "no shared seed")
    count = len(view.seeds(dataset))
    of_seeds = f", {gap.size} of {count} seeds" if 1 < gap.size < count else ""
    if gap.half_width is None:
        return Cell(text, f"{in_points(gap)} points, {gap.why_none}{of_seeds}")
    side = _decisions(view, dataset, column.name)[loss].side
    verdict = "" if side in ("higher", "lower") else f", {ALIKE}"
    return Cell(text, f"{in_points(gap)} points{of_seeds}{verdict}", leads=side == "higher")


def _objective(search: Record) -> Cell:
    before, after = known(search.get("default_objective")), known(search.get("objective"))
    text = " → ".join(NOT_KNOWN if v is None else shown(v, "percent") for v in (before, after))
    if before is None or after is None:
        return Cell(text)
    if search.get("trial") == 0:
        return Cell(text, "as in the plan, the best of all trials")
    gain = f"{rounded(100 * (after - before), 1, signed=True)} points"
    return Cell(text, f"{gain}, the best of all trials")


def _gaps(view: StudyView, dataset: str, column: str) -> dict[Loss, Interval]:
    """Loss → tuned minus default in a column, where both know it."""
    return {
        _default(tuned): gap
        for tuned in view.tuned
        if (gap := view.difference(dataset, tuned, _default(tuned), column)) is not None
    }


def _decisions(view: StudyView, dataset: str, column: str) -> dict[Loss, Decision]:
    """What is decided about each of `_gaps`: one family, corrected together."""
    gaps = _gaps(view, dataset, column)
    decided = decide(list(gaps.values()), COLUMNS[column].margin)
    return dict(zip(gaps, decided, strict=True))


def _sentences(view: StudyView, dataset: str) -> tuple[str, ...]:
    first, second = compared(view)
    gaps = _gaps(view, dataset, first)
    if not gaps:
        return ()
    if all(gap.size == 1 for gap in gaps.values()):
        return ("One seed shows no spread, so no gain can be distinguished from chance.",)
    gains = (
        f"By {COLUMNS[first].title}, the objective of the search, {_gained(_decisions(view, dataset, first))}",
        f"By {COLUMNS[second].title}, {_gained(_decisions(view, dataset, second))}",
    )
    return *gains, *_changed_order(view, dataset, list(gaps))


def _gained(decided: dict[Loss, Decision]) -> str:
    """`2 of 3 losses gain by tuning (contrastive and scl); the rest shows no clear difference.`"""
    gained = [loss for loss, of in decided.items() if of.side == "higher"]
    lost = [loss for loss, of in decided.items() if of.side == "lower"]
    verb = "gains" if len(gained) == 1 else "gain"
    text = f"{len(gained)} of {counted(len(decided), 'loss')} {verb} by tuning"
    text += f" ({listed(gained)})" if 0 < len(gained) < len(decided) else ""
    text += f"; {listed(lost)} {'loses' if len(lost) == 1 else 'lose'}" if lost else ""
    return text + (
        "." if len(gained) + len(lost) == len(decided) else "; the rest shows no clear difference."
    )


def _changed_order(view: StudyView, dataset: str, losses: list[Loss]) -> tuple[str, ...]:
    """Which pairs of losses change places when all are tuned, where both differences are clear; and the rank correlation of the two orders."""
    means = {
        loss: (default.mean, tuned.mean)
        for loss in losses
        if (default := view.interval(dataset, loss, view.retrieval[0].name))
        and (tuned := view.interval(dataset, _tuned(loss), view.retrieval[0].name))
    }
    if len(means) < 2:
        return ()
    pairs = list(combinations(means, 2))
    changes = []
    of_tuned = [
        view.difference(dataset, _tuned(a), _tuned(b), view.retrieval[0].name) for a, b in pairs
    ]
    after = decide(of_tuned, view.retrieval[0].margin)
    for (a, b), decided in zip(pairs, after, strict=True):
        before = view.decisions(dataset, view.retrieval[0].name).get((a, b))
        if before is not None and (before.side, decided.side) == ("lower", "higher"):
            changes.append(f"{display_name(a)} passes {display_name(b)}")
        elif before is not None and (before.side, decided.side) == ("higher", "lower"):
            changes.append(f"{display_name(b)} passes {display_name(a)}")
    title = view.retrieval[0].title
    if changes:
        text = (
            f"{len(changes)} of {counted(len(pairs), 'pair')} of losses change places in {title}: "
        )
        text += ", ".join(changes)
    else:
        text = f"No two losses clearly change places in {title}"
    alike = rank_correlation(*map(list, zip(*means.values(), strict=True)))
    if alike is not None:
        text += f"; rank correlation of the two rankings {rounded(alike.value, 2, signed=True)}"
    return (text + ".",)
