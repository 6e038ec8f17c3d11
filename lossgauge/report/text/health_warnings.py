"""What looks wrong with a loss on a dataset, and what only seems so: the findings of its runs, and two of all seeds together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lossgauge.health.finding import LEVELS, Finding, worst_first
from lossgauge.health.titles import TITLES
from lossgauge.report.text.not_training import UNTRAINED_HEAD, compared, measures
from lossgauge.report.text.rankings import in_points
from lossgauge.report.text.run_findings import run_findings
from lossgauge.report.text.short_training import of_loss
from lossgauge.results.view import Loss, StudyView
from lossgauge.types import Record

STILL_FALLING = 0.6
"""Compaction later than this share of the epochs. An even fall until the last epoch would give 0.9."""
NORMAL = ("loss-floor",)
"""Shown though nothing is wrong: it looks like a fault."""


class HealthWarning(NamedTuple):
    """One finding about a loss on a dataset."""

    dataset: str
    loss: Loss
    finding: Finding
    words: str
    """The finding in one line."""


class WarningGroup(NamedTuple):
    """One finding, with each loss and dataset that it is about."""

    level: str
    words: str
    advice: str
    warnings: tuple[HealthWarning, ...]


class _Runs(NamedTuple):
    """The runs of one loss on one dataset."""

    view: StudyView
    dataset: str
    loss: Loss

    def mean(self, column: str) -> float | None:
        interval = self.view.interval(self.dataset, self.loss, column)
        return interval.mean if interval else None

    def warn(self, finding: Finding) -> HealthWarning:
        words = TITLES[finding.name]
        if finding.name == "training-harms" and self.view.of_pairs:
            titles = " and ".join(column.title for column in self.view.retrieval)
            start = self.view.measures.raw
            words = f"training makes retrieval worse: {titles} are both below those of the {start}"
        return HealthWarning(self.dataset, self.loss, finding, words)


def health_warnings(view: StudyView) -> list[HealthWarning]:
    """Findings about every loss on every dataset: the worst first, then in the order of the tables.

    A finding counts if more than half of the seeds have it; its evidence is that of the first of these.
    """
    runs = [
        _Runs(view, dataset, loss) for dataset in view.datasets for loss in view.losses_and_tuned
    ]
    warnings = [of.warn(found) for of in runs for check in _CHECKS for found in check(of)]
    return sorted(warnings, key=lambda warning: -LEVELS.index(warning.finding.level))


def findings_of_run(view: StudyView, dataset: str, loss: Loss, seed: int) -> list[Finding]:
    """Every finding about one finished run, the worst first."""
    row = view.runs(dataset, loss)[seed]
    epochs = [e for e in view.epochs(dataset, loss) if int(e["seed"]) == seed]
    classes: Sequence[Record] = view.files.classes(str(row["run"])) if view.files else ()
    return run_findings(row, epochs, classes, plan=view.plan, loss=loss.name)


def grouped(warnings: Sequence[HealthWarning]) -> list[WarningGroup]:
    """Warnings with the same words together, in the order of the first of each."""
    groups: dict[tuple[str, str, str], list[HealthWarning]] = {}
    for warning in warnings:
        found = warning.finding
        groups.setdefault((found.level, warning.words, found.advice), []).append(warning)
    return [WarningGroup(*key, tuple(members)) for key, members in groups.items()]


def still_falling(view: StudyView, dataset: str, loss: Loss) -> bool:
    """Whether intra was still falling when training ended, so that the compaction epoch is provisional."""
    compaction = view.interval(dataset, loss, "compaction_epochs")
    epochs = view.interval(dataset, loss, "epochs")
    if compaction is None or epochs is None:
        return False
    return compaction.mean > STILL_FALLING * epochs.mean


def _in_most_seeds(of: _Runs) -> list[Finding]:
    """The findings that more than half of the seeds have, at the level that more than half reach."""
    of_seeds = [
        {
            found.name: found
            for found in findings_of_run(of.view, of.dataset, of.loss, seed)
            if found.level != "ok" or found.name in NORMAL
        }
        for seed in sorted(of.view.runs(of.dataset, of.loss))
    ]
    common = []
    for name in dict.fromkeys(name for found in of_seeds for name in found):
        having = [found[name] for found in of_seeds if name in found]
        if 2 * len(having) <= len(of_seeds):
            continue
        middle = worst_first(having)[len(of_seeds) // 2]
        shown = next(found for found in having if found.level == middle.level)
        if len(of_seeds) > 1:
            seeds = f"{len(having)} of {len(of_seeds)} seeds"
            shown = shown._replace(evidence=f"{shown.evidence}, in {seeds}")
        if name not in NORMAL or of.mean("decay_epochs") is None:
            common.append(shown)
    return common


def _too_little(of: _Runs) -> list[Finding]:
    """Too little training, for a loss that does not gain by any measure."""
    losses = of.view.tuned if of.loss.tuned else of.view.losses
    by = [
        one
        for column in measures(of.view, of.dataset)
        if (one := compared(of.view, of.dataset, column, losses)) and of.loss in one.means
    ]
    if not by or any(one.gain(of.loss) == "better" for one in by):
        return []
    found = of_loss(of.view, of.dataset, of.loss, by[0])
    return [] if found is None else [found]


def _too_little_or_harm(of: _Runs) -> list[Finding]:
    """Where too little training stops is not where it ends, so it is not called harm."""
    return _too_little(of) or _harm(of)


def _harm(of: _Runs) -> list[Finding]:
    losses = of.view.tuned if of.loss.tuned else of.view.losses
    evidence, start = [], ""
    for column in (column.name for column in of.view.retrieval):
        by = compared(of.view, of.dataset, column, losses)
        if by is None:
            return []
        start = UNTRAINED_HEAD if UNTRAINED_HEAD in by.levels else of.view.measures.raw
        decision = by.decisions.get((of.loss, start))
        if decision is None or decision.side != "lower":
            return []  # one measure alone may fall where the other gains
        over = by.differences[of.loss, start]
        evidence.append(f"{by.title} {in_points(over)} points over {over.size} paired seeds")
    return [
        Finding(
            "training-harms",
            "act",
            of.loss.base,
            "; ".join(evidence),
            "above 0 if training helps",
            f"Both measures are clearly below those of the {start}.",
            "fewer epochs or a lower learning rate",
        )
    ]


def _unfinished(of: _Runs) -> list[Finding]:
    if not (of.view.measures.judges_classes and still_falling(*of)):
        return []
    compaction, epochs = of.mean("compaction_epochs"), of.mean("epochs")
    return [
        Finding(
            "still-compacting",
            "watch",
            of.loss.base,
            f"compaction {compaction or 0:.1f} of {epochs or 0:.0f} epochs",
            f"later than {STILL_FALLING:.0%} of the epochs, intra is still falling",
            "The compaction epoch, the trade-off and the final intra would be others after more epochs.",
            "train longer before you use the compaction epoch, the trade-off or the final intra",
        )
    ]


_CHECKS: tuple[Callable[[_Runs], list[Finding]], ...] = (
    _in_most_seeds,
    _too_little_or_harm,
    _unfinished,
)
