"""Tuned against default: what a search of its settings gave each loss, and what it did to the ranking."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from lossgauge.report.contents import losses_of, seeds_of, tuned_of
from lossgauge.report.naming import color_of, display_name, loss_order
from lossgauge.report.rankings import difference, in_points, in_words
from lossgauge.report.tables import NOT_KNOWN, Cell, failures_of, measured
from lossgauge.report.text.findings import Finding
from lossgauge.report.text.selection import judged_by, selection
from lossgauge.results.columns import COLUMNS, Column
from lossgauge.stats.intervals import Interval, known, rank_correlation
from lossgauge.stats.number_format import counted, rounded, shown, shown_interval
from lossgauge.types import Record, Results

RANKED = "recall_at_1"
"""What the answer ranks losses by."""
COMPARED = ("map_at_r", RANKED)
ALIKE = "not told apart"


class TunedRow(NamedTuple):
    name: str
    color: str
    cells: tuple[Cell, ...]
    """Default → tuned of each of `COMPARED`, then of the objective; none where no tuned run finished."""
    trials: str
    settings: str
    failure: str


class Tuning(NamedTuple):
    dataset: str
    metrics: tuple[Column, ...]
    objective: str
    """What trials were judged by."""
    rows: tuple[TunedRow, ...]
    sentences: tuple[str, ...]


def tuning(results: Results, dataset: str) -> Tuning | None:
    """Default against tuned on one dataset; None where nothing was tuned there."""
    chosen = {str(r["base"]): r for r in results.tuned if r["dataset"] == dataset}
    titles = tuned_of(results)
    finished = {str(r["loss"]) for r in results.summaries if r["dataset"] == dataset}
    failed = failures_of(results, dataset)
    there = {base for base, title in titles.items() if title in finished | failed.keys()}
    bases = loss_order(there | chosen.keys())
    if not bases:
        return None
    rows = tuple(
        _row(results, dataset, base, titles.get(base, ""), chosen.get(base, {})) for base in bases
    )
    metrics = tuple(COLUMNS[column] for column in compared(results))
    objective = f"{judged_by(results)} on validation"
    return Tuning(dataset, metrics, objective, rows, _sentences(results, dataset))


def compared(results: Results) -> tuple[str, ...]:
    """Columns in which default and tuned are set side by side: what was searched for comes first."""
    asked = str(results.plan.get("selection_metric") or COMPARED[0])
    return tuple(sorted(COMPARED, key=lambda column: column != asked))


def budget(results: Results) -> str:
    """What each search could spend, and what it was judged by; empty where the plan does not say."""
    asked = results.plan.get("tune")
    if not isinstance(asked, dict) or known(asked.get("trials")) is None:
        return ""
    whole = results.plan.get("epochs")
    epochs = asked.get("epochs") or whole
    of_epochs = f" of {epochs} epochs" if epochs else ""
    by = {"tpe": ", drawn by TPE", "random": ", drawn at random"}.get(str(asked.get("sampler")), "")
    share = known(results.plan.get("validation_share"))
    slice_of = f" ({100 * share:.0f} %)" if share else ""
    told = (
        f"Each loss had the same budget: {asked['trials']} trials{of_epochs}{by}, judged by "
        f"{judged_by(results)} on a validation slice{slice_of} of the training side. The first trial is the loss as "
        "it stands. "
    )
    if epochs != whole:
        told += (
            f"Trials had {epochs} epochs and the runs {whole}: the best early need not be the best at the end, the "
            "learning rate above all. "
        )
    if selection(results).flagged:
        return told + (
            "The search did not ask the test side, but the runs anew with the chosen settings did: it picked their epochs."
        )
    return told + (
        "The test side was never asked, and the numbers here are of runs anew with the chosen settings."
    )


def tuned_finding(results: Results, dataset: str) -> Finding | None:
    """What tuning changed, as one of the answer's topics; None where no tuned run finished."""
    told = _sentences(results, dataset)
    if not told:
        return None
    parts = []
    for column in compared(results):
        gaps = _gaps(results, dataset, column)
        listed = ", ".join(f"{display_name(loss)} {in_points(gap)}" for loss, gap in gaps.items())
        parts.append(f"{COLUMNS[column].title}: {listed}")
    return Finding("Tuned", " ".join(told), "tuned less default, in points: " + "; ".join(parts))


def _row(results: Results, dataset: str, base: str, title: str, chosen: Record) -> TunedRow:
    color, name = color_of(base, losses_of(results)), display_name(base)
    made, failed = known(chosen.get("trials")), known(chosen.get("failed"))
    trials = (
        NOT_KNOWN if made is None else f"{made:.0f}" + (f", {failed:.0f} failed" if failed else "")
    )
    settings = str(chosen.get("settings") or "")
    if chosen.get("trial") == 0:
        settings = f"as it stands: {settings}" if settings else "as it stands"
    failure = str(chosen.get("error") or "") or failures_of(results, dataset).get(title, "")
    if measured(results, dataset, title, RANKED) is None:
        return TunedRow(name, color, (), trials, settings, failure or "no tuned run finished")
    cells = [_moved(results, dataset, base, title, COLUMNS[c]) for c in compared(results)]
    cells.append(_objective(results, chosen))
    return TunedRow(name, color, tuple(cells), trials, settings, failure)


def _moved(results: Results, dataset: str, base: str, title: str, metric: Column) -> Cell:
    """`91.2 % → 92.0 %`, and below it the paired difference."""
    sides = [measured(results, dataset, loss, metric.name) for loss in (base, title)]
    text = " → ".join(_value(over, metric) for over in sides)
    gap = difference(results, dataset, title, base, metric.name)
    if gap is None:
        return Cell(text, "no shared seed")
    count = len(seeds_of(results, dataset))
    over = f", {gap.size} of {count} seeds" if 1 < gap.size < count else ""
    if gap.half_width is None:
        return Cell(text, f"{in_points(gap)} points, {gap.why_none}{over}")
    verdict = "" if gap.excludes_zero else f", {ALIKE}"
    return Cell(
        text,
        f"{in_points(gap)} points{over}{verdict}",
        leads=gap.excludes_zero and gap.mean > 0,
    )


def _value(over: Interval | None, metric: Column) -> str:
    return NOT_KNOWN if over is None else shown_interval(over, metric.unit)


def _objective(results: Results, chosen: Record) -> Cell:
    before, after = known(chosen.get("default_objective")), known(chosen.get("objective"))
    texts = [NOT_KNOWN if v is None else shown(v, "percent") for v in (before, after)]
    if before is None or after is None:
        return Cell(" → ".join(texts))
    if chosen.get("trial") == 0:
        return Cell(" → ".join(texts), "as it stands, the best of all trials")
    gain = f"{rounded(100 * (after - before), 1, signed=True)} points"
    return Cell(" → ".join(texts), f"{gain}, the best of all trials")


def _gaps(results: Results, dataset: str, column: str) -> dict[str, Interval]:
    """Loss → tuned less default in a column, where both know it."""
    return {
        base: gap
        for base, title in tuned_of(results).items()
        if (gap := difference(results, dataset, title, base, column)) is not None
    }


def _sentences(results: Results, dataset: str) -> tuple[str, ...]:
    first, second = compared(results)
    gaps = _gaps(results, dataset, first)
    if not gaps:
        return ()
    if all(gap.size == 1 for gap in gaps.values()):
        return ("One seed shows no spread, so no gain can be told from chance.",)
    told = (
        f"By {COLUMNS[first].title}, which it was searched for, {_gained(gaps)}",
        f"By {COLUMNS[second].title}, {_gained(_gaps(results, dataset, second))}",
    )
    return *told, *_turned(results, dataset, list(gaps))


def _gained(gaps: dict[str, Interval]) -> str:
    """`2 of 3 losses gain by tuning (contrastive and scl); the rest is not told apart.`"""
    gained = [loss for loss, gap in gaps.items() if gap.excludes_zero and gap.mean > 0]
    lost = [loss for loss, gap in gaps.items() if gap.excludes_zero and gap.mean < 0]
    told = f"{len(gained)} of {counted(len(gaps), 'loss')} {'gains' if len(gained) == 1 else 'gain'} by tuning"
    told += f" ({in_words(gained)})" if 0 < len(gained) < len(gaps) else ""
    told += f"; {in_words(lost)} {'loses' if len(lost) == 1 else 'lose'}" if lost else ""
    return told + ("." if len(gained) + len(lost) == len(gaps) else "; the rest is not told apart.")


def _turned(results: Results, dataset: str, losses: list[str]) -> tuple[str, ...]:
    """Which pairs of losses change places when all are tuned, as far as seeds can tell, and how alike the orders are."""
    titles = tuned_of(results)
    means = {
        loss: tuple(
            over.mean
            for name in (loss, titles[loss])
            if (over := measured(results, dataset, name, RANKED))
        )
        for loss in losses
    }
    both = [loss for loss in losses if len(means[loss]) == 2]
    if len(both) < 2:
        return ()
    pairs = list(combinations(both, 2))
    turned = []
    for a, b in pairs:
        before = difference(results, dataset, a, b, RANKED)
        after = difference(results, dataset, titles[a], titles[b], RANKED)
        if before and after and before.excludes_zero and after.excludes_zero:
            if before.mean < 0 < after.mean:
                turned.append(f"{display_name(a)} passes {display_name(b)}")
            elif after.mean < 0 < before.mean:
                turned.append(f"{display_name(b)} passes {display_name(a)}")
    title = COLUMNS[RANKED].title
    if turned:
        told = (
            f"{len(turned)} of {counted(len(pairs), 'pair')} of losses change places in {title}: "
        )
        told += ", ".join(turned)
    else:
        told = f"No two losses change places in {title}, as far as the seeds can tell"
    alike = rank_correlation([means[loss][0] for loss in both], [means[loss][1] for loss in both])
    if alike is not None:
        told += f"; rank correlation of the two rankings {rounded(alike.value, 2, signed=True)}"
    return (told + ".",)
