"""Every loss compared with not training: with the frozen features and with the untrained head, by the study's retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

from lossgauge.diagnostics.references import FROZEN
from lossgauge.report.naming import display_name, listed
from lossgauge.report.text.rankings import in_points
from lossgauge.results.columns import COLUMNS
from lossgauge.results.view import BASELINE, Loss, StudyView
from lossgauge.stats.decisions import Decision, decide
from lossgauge.stats.intervals import Interval, known
from lossgauge.stats.number_format import counted, shown

CEILING = 0.95
"""R@1 of the frozen features or the untrained head from which on MAP@R leads: our choice."""

UNTRAINED_HEAD = "untrained head"
Gain = Literal["better", "worse", "equivalent", "open"]


class Compared(NamedTuple):
    """All losses against all ways of not training, by one measure: one family, corrected together."""

    column: str
    levels: Mapping[str, float]
    """Mean of each reference: `frozen features`, `untrained head`; only those that were measured."""
    means: Mapping[Loss, float]
    differences: Mapping[tuple[Loss, str], Interval]
    decisions: Mapping[tuple[Loss, str], Decision]
    """Of the loss minus the reference."""

    @property
    def title(self) -> str:
        return COLUMNS[self.column].title

    @property
    def losses(self) -> tuple[Loss, ...]:
        return tuple(self.means)

    @property
    def references(self) -> str:
        """`the frozen features and the untrained head`."""
        return " and ".join(f"the {name}" for name in self.levels)

    @property
    def either(self) -> str:
        """`the frozen features or the untrained head`."""
        return " or ".join(f"the {name}" for name in self.levels)

    @property
    def family(self) -> int:
        """How many comparisons the correction is for."""
        return max((decision.family for decision in self.decisions.values()), default=0)

    def gain(self, loss: Loss) -> Gain:
        """`better` than every reference, or `worse` than one of them."""
        sides = [self.decisions[loss, name].side for name in self.levels]
        if "lower" in sides:
            return "worse"
        if "open" in sides:
            return "open"
        return "better" if set(sides) == {"higher"} else "equivalent"

    def gained(self, gain: Gain) -> list[Loss]:
        return [loss for loss in self.losses if self.gain(loss) == gain]

    def may_gain(self) -> bool:
        """Whether the mean of a loss that is not decided is above every reference by what matters: more seeds may show it."""
        least = max(self.levels.values()) + (COLUMNS[self.column].margin or 0.0)
        return any(self.means[loss] >= least for loss in self.gained("open"))

    def beats_all(self, reference: str) -> bool:
        """Whether a reference is clearly better than every loss."""
        return reference in self.levels and all(
            self.decisions[loss, reference].side == "lower" for loss in self.losses
        )


def compared(
    view: StudyView, dataset: str, column: str, losses: Sequence[Loss] | None = None
) -> Compared | None:
    """The comparison of `losses` by one measure; of all losses of the plan if not given. None without a loss and a reference."""
    losses = tuple(view.losses if losses is None else losses)
    of_view = _compared.setdefault(view, {})
    key = dataset, column, losses
    if key not in of_view:
        of_view[key] = _compare(view, *key)
    return of_view[key]


_compared: WeakKeyDictionary[
    StudyView, dict[tuple[str, str, tuple[Loss, ...]], Compared | None]
] = WeakKeyDictionary()
"""What was compared of each view: half of the parts of a page ask for it."""


def _compare(view: StudyView, dataset: str, column: str, losses: Sequence[Loss]) -> Compared | None:
    runs = {loss: view.settled_runs(dataset, loss) for loss in losses}
    means = {loss: of.mean for loss in losses if (of := view.interval(dataset, loss, column))}
    raw = view.measures.raw
    levels: dict[str, float] = {}
    frozen = next((r for r in view.references(dataset) if r["reference"] == FROZEN), {})
    if (level := known(frozen.get(column))) is not None:
        levels[raw] = level
    of_untrained = [view.interval(dataset, loss, column) for loss in view.untrained(dataset)]
    for untrained in filter(None, of_untrained):
        levels[UNTRAINED_HEAD] = untrained.mean
    differences = {}
    for loss in means:
        others = {
            raw: view.reference_runs(dataset, loss, FROZEN),
            UNTRAINED_HEAD: view.runs(dataset, BASELINE),
        }
        for name in levels:
            difference = view.contrast([runs[loss]], [others[name]], column)
            if difference is not None:
                differences[loss, name] = difference
    means = {
        loss: mean for loss, mean in means.items() if all((loss, n) in differences for n in levels)
    }
    if not means or not levels:
        return None
    keys = [key for key in differences if key[0] in means]
    decided = decide([differences[key] for key in keys], COLUMNS[column].margin, of_heads=True)
    return Compared(column, levels, means, differences, dict(zip(keys, decided, strict=True)))


def at_ceiling(view: StudyView, dataset: str) -> float | None:
    """R@1 without training, if it leaves little to gain; otherwise None, and always for queries and documents."""
    if view.of_pairs:
        return None
    by_recall = compared(view, dataset, view.retrieval[0].name)
    level = max(by_recall.levels.values()) if by_recall else 0.0
    return level if level >= CEILING else None


def measures(view: StudyView, dataset: str) -> tuple[str, ...]:
    """The columns that losses are judged by, the one that leads first.

    R@1 leads, or MAP@R if R@1 is at its ceiling; of queries and documents nDCG@10. In the study of `lossgauge advise` the measure of
    the goal leads.
    """
    columns = tuple(column.name for column in view.retrieval)
    asked = goal_measure(view)
    if asked is not None:
        return tuple(sorted(columns, key=lambda column: column != asked))
    return columns if at_ceiling(view, dataset) is None else columns[::-1]


def goal_measure(view: StudyView) -> str | None:
    """The measure by which `lossgauge advise` chose, in the study of its finalists; None in other studies."""
    return view.plan.get("selection_metric") if view.results.answer else None


def comparisons(view: StudyView, dataset: str) -> list[Compared]:
    """By each measure that is known; the one that leads comes first."""
    every = (compared(view, dataset, column) for column in measures(view, dataset))
    return [of for of in every if of is not None]


def sentences(view: StudyView, dataset: str, *, short: str = "") -> list[str]:
    """Whether training is worth it, one sentence for each measure; none if nothing can be compared.

    `short` says that the training was too short to tell, and what to change: see `short_training`.
    """
    of_all = comparisons(view, dataset)
    if not of_all:
        return []
    if short:
        words = [
            f"Too little training to tell whether it helps: {short}",
            *map(_by_another, of_all),
        ]
    elif nothing_helps(of_all):
        words = [_by_no_measure(of_all)]
    else:
        gains = any(of.gained("better") for of in of_all[1:])
        words = [_by_the_first(of_all[0], gains_otherwise=gains), *map(_by_another, of_all[1:])]
    ceiling = at_ceiling(view, dataset)
    if ceiling is not None and len(of_all) > 1 and goal_measure(view) is None:
        words.append(
            f"R@1 is at its ceiling ({shown(ceiling, 'percent')} without training), so MAP@R leads"
        )
    sizes = {of.size for of in of_all[0].differences.values()}
    if sizes == {1}:
        words.append("With one seed, this holds for these trained heads, not for the losses")
    elif 2 in sizes:
        words.append("With two seeds, intervals are approximate: three seeds are safer")
    return words


def nothing_helps(of_all: Sequence[Compared]) -> bool:
    """Whether several losses were compared, none gains by any measure or may do so, and no reference beats all of them by one."""
    return all(
        len(of.losses) > 1
        and not of.may_gain()
        and any(decision.p_value is not None for decision in of.decisions.values())
        and not of.gained("better")
        and not any(map(of.beats_all, of.levels))
        for of in of_all
    )


def _by_no_measure(of_all: Sequence[Compared]) -> str:
    titles = " or ".join(of.title for of in of_all)
    words = f"Training does not help here: no loss is clearly better than {of_all[0].references} by {titles}"
    gains: tuple[tuple[Gain, str], ...] = (
        ("worse", "worse than one of them"),
        ("equivalent", "equivalent to one of them"),
    )
    for gain, how in gains:
        counts = [
            f"{len(losses)} of {counted(len(of.losses), 'loss')} by {of.title}"
            for of in of_all
            if (losses := of.gained(gain))
        ]
        words += f"; {how}: {' and '.join(counts)}" if counts else ""
    return words


def _by_the_first(of: Compared, *, gains_otherwise: bool) -> str:
    """With the advice not to train, unless some loss gains by the other measure."""
    if all(decision.p_value is None for decision in of.decisions.values()):
        reason = next(iter(of.decisions.values())).reason
        return f"It is open whether training helps by {of.title}: {reason}"
    if better := of.gained("better"):
        words = f"Training helps by {of.title}: {_are(better, of)} better than {of.references}"
        worse = of.gained("worse")
        return f"{words}; {_are(worse, of)} worse than {of.either}" if worse else words
    for reference in of.levels:
        if of.beats_all(reference):
            every = "every loss" if len(of.losses) > 1 else display_name(of.losses[0])
            best = "at most " if len(of.losses) > 1 else ""
            numbers = f"{shown(of.levels[reference], 'percent')} against {best}{shown(max(of.means.values()), 'percent')}"
            verb = "are" if reference == FROZEN else "is"
            start = "The" if gains_otherwise else "Do not train: the"
            return f"{start} {reference} {verb} better than {every} by {of.title} ({numbers})"
    if len(of.losses) == 1:
        return (
            f"{display_name(of.losses[0])} is not clearly better than {of.references} by {of.title}"
        )
    words = f"No loss is clearly better than {of.references} by {of.title}"
    worse = of.gained("worse")
    return f"{words}; {_are(worse, of)} worse than {of.either}" if worse else words


def _by_another(of: Compared) -> str:
    return f"By {of.title}, {'; '.join(groups(of))}"


def groups(of: Compared) -> Iterator[str]:
    """`scl and triplet are better than the frozen features and the untrained head`: one text for each kind of result."""
    gains: tuple[tuple[Gain, str], ...] = (
        ("better", f"better than {of.references}"),
        ("worse", f"worse than {of.either}"),
        ("equivalent", f"equivalent to {of.either}"),
        ("open", f"not clearly different from {of.either}"),
    )
    for gain, words in gains:
        losses = of.gained(gain)
        if gain == "open" and len(losses) == len(of.losses) > 1:
            yield f"none of the {len(losses)} losses is clearly different from {of.either}"
        elif losses:
            yield f"{_are(losses, of)} {words}"


def _are(losses: Sequence[Loss], of: Compared) -> str:
    verb = "is" if len(losses) == 1 else "are"
    if len(losses) == len(of.losses) > 1:
        return f"all {len(losses)} losses {verb}"
    if len(losses) <= 3:
        return f"{listed(losses)} {verb}"
    return f"{len(losses)} of {counted(len(of.losses), 'loss')} {verb}"


def evidence(of: Compared) -> str:
    """The levels without training, and each difference from them in points."""
    levels = ", ".join(f"{name} {shown(level, 'percent')}" for name, level in of.levels.items())
    parts = [
        f"minus {name}: "
        + ", ".join(
            f"{display_name(loss)} {in_points(of.differences[loss, name])}" for loss in of.losses
        )
        for name in of.levels
    ]
    corrected = f"; corrected (Holm) for {counted(of.family, 'comparison')}" if of.family else ""
    return f"{of.title}: {levels}; in points, {'; '.join(parts)}{corrected}"
