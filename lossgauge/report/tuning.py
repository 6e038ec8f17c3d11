"""Tuned against default: what a search of its settings gave each loss, and what it did to the ranking."""

from __future__ import annotations

from typing import NamedTuple

from lossgauge.claims.evidence import Interval, known, rank_correlation
from lossgauge.report.catalogue import METRICS, Metric, shown, shown_half_width
from lossgauge.report.contents import losses_of, tuned_of
from lossgauge.report.findings import Finding
from lossgauge.report.palette import color_of, display_name, loss_order
from lossgauge.report.rankings import difference, in_points, in_words
from lossgauge.report.selection import judged_by
from lossgauge.report.tables import NOT_KNOWN, Cell, failures_of, measured
from lossgauge.types import Record, Results

COMPARED = ("recall_at_1", "map_at_r")
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
    metrics: tuple[Metric, ...]
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
    metrics = tuple(METRICS[column] for column in COMPARED)
    objective = f"{judged_by(results)} on validation"
    return Tuning(dataset, metrics, objective, rows, _sentences(results, dataset))


def budget(results: Results) -> str:
    """What each search could spend, and what it was judged by; empty where the plan does not say."""
    asked = results.plan.get("tune")
    if not isinstance(asked, dict) or known(asked.get("trials")) is None:
        return ""
    epochs = asked.get("epochs") or results.plan.get("epochs")
    of_epochs = f" of {epochs} epochs" if epochs else ""
    by = {"tpe": ", drawn by TPE", "random": ", drawn at random"}.get(str(asked.get("sampler")), "")
    share = known(results.plan.get("validation_share"))
    slice_of = f" ({100 * share:.0f} %)" if share else ""
    return (
        f"Each loss had the same budget: {asked['trials']} trials{of_epochs}{by}, judged by "
        f"{judged_by(results)} on a validation slice{slice_of} of the training side. The first trial is the loss as "
        "it stands. The test side was never asked, and the numbers here are of runs anew with the chosen settings."
    )


def tuned_finding(results: Results, dataset: str) -> Finding | None:
    """What tuning changed, as one of the answer's topics; None where no tuned run finished."""
    told = _sentences(results, dataset)
    gaps = _gaps(results, dataset)
    if not told or not gaps:
        return None
    listed = ", ".join(f"{display_name(loss)} {in_points(gap)}" for loss, gap in gaps.items())
    return Finding("Tuned", " ".join(told), f"R@1, tuned less default, in points: {listed}")


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
    if measured(results, dataset, title, COMPARED[0]) is None:
        return TunedRow(name, color, (), trials, settings, failure or "no tuned run finished")
    cells = [_moved(results, dataset, base, title, METRICS[column]) for column in COMPARED]
    cells.append(_objective(results, chosen))
    return TunedRow(name, color, tuple(cells), trials, settings, failure)


def _moved(results: Results, dataset: str, base: str, title: str, metric: Metric) -> Cell:
    """`91.2 % → 92.0 %`, and below it the paired difference."""
    sides = [measured(results, dataset, loss, metric.column) for loss in (base, title)]
    text = " → ".join(_value(over, metric) for over in sides)
    gap = difference(results, dataset, title, base, metric.column)
    if gap is None:
        return Cell(text, "no shared seed")
    if gap.half_width is None:
        return Cell(text, f"{in_points(gap)} points, one seed")
    verdict = "" if gap.excludes_zero else f", {ALIKE}"
    return Cell(text, f"{in_points(gap)} points{verdict}", leads=gap.excludes_zero and gap.mean > 0)


def _value(over: Interval | None, metric: Metric) -> str:
    if over is None:
        return NOT_KNOWN
    text = shown(over.mean, metric.unit)
    if over.half_width is None:
        return text
    return f"{text} ± {shown_half_width(over.half_width, over.mean, metric.unit)}"


def _objective(results: Results, chosen: Record) -> Cell:
    before, after = known(chosen.get("default_objective")), known(chosen.get("objective"))
    texts = [NOT_KNOWN if v is None else shown(v, "percent") for v in (before, after)]
    if before is None or after is None:
        return Cell(" → ".join(texts))
    if chosen.get("trial") == 0:
        return Cell(" → ".join(texts), "the default was best")
    gain = f"{100 * (after - before):+.1f} points".replace("-", "−")
    return Cell(" → ".join(texts), f"{gain}, the best of all trials")


def _gaps(results: Results, dataset: str) -> dict[str, Interval]:
    """Loss → R@1 tuned less default, where both know it."""
    return {
        base: gap
        for base, title in tuned_of(results).items()
        if (gap := difference(results, dataset, title, base, COMPARED[0])) is not None
    }


def _sentences(results: Results, dataset: str) -> tuple[str, ...]:
    gaps = _gaps(results, dataset)
    if not gaps:
        return ()
    gained = [loss for loss, gap in gaps.items() if gap.excludes_zero and gap.mean > 0]
    lost = [loss for loss, gap in gaps.items() if gap.excludes_zero and gap.mean < 0]
    count = len(gaps)
    if all(gap.half_width is None for gap in gaps.values()):
        told = "One seed shows no spread, so no gain can be told from chance."
    else:
        told = f"{len(gained)} of {count} losses gain R@1 by tuning"
        told += f" ({in_words(gained)})" if 0 < len(gained) < count else ""
        told += f"; {in_words(lost)} {'loses' if len(lost) == 1 else 'lose'}" if lost else ""
        told += "." if len(gained) + len(lost) == count else "; the rest is not told apart."
    return told, *_ranking(results, dataset, list(gaps))


def _ranking(results: Results, dataset: str, losses: list[str]) -> tuple[str, ...]:
    """What tuning all losses does to their order by mean R@1, and how alike the two orders are."""
    titles = tuned_of(results)
    default, tuned = (
        {
            loss: over.mean
            for loss in losses
            if (over := measured(results, dataset, name(loss), COMPARED[0]))
        }
        for name in (str, titles.__getitem__)
    )
    if len(losses) < 2:
        return ()
    before, after = _places(default), _places(tuned)
    moved = [loss for loss in losses if before[loss] != after[loss]]
    if not moved:
        return (f"The ranking of the {len(losses)} losses by mean R@1 stays as it is.",)
    most = max(moved, key=lambda loss: (abs(after[loss] - before[loss]), -after[loss]))
    told = (
        f"Tuned, {display_name(most)} moves from {_ordinal(before[most])} to {_ordinal(after[most])} by mean R@1; "
        f"{len(moved)} of {len(losses)} places change"
    )
    alike = rank_correlation(list(default.values()), list(tuned.values()))
    if alike is not None:
        told += f"; rank correlation of the two rankings {alike.value:+.2f}".replace("-", "−")
    return (told + ".",)


def _places(means: dict[str, float]) -> dict[str, int]:
    ordered = sorted(means, key=lambda loss: (-means[loss], loss))
    return {loss: place for place, loss in enumerate(ordered, start=1)}


def _ordinal(place: int) -> str:
    ending = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
