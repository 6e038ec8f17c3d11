"""Warnings about the health of a space in words: the problem, the number that shows it, and one remedy to try.

The thresholds are our choice: beyond them a result is of little use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lossgauge.diagnostics.health import CLASS_POINT, COLLAPSED, LEAST_RANK, ONE_WAY
from lossgauge.report.text.not_training import MEASURES, UNTRAINED_HEAD, compared
from lossgauge.report.text.rankings import in_points
from lossgauge.results.view import Loss, StudyView
from lossgauge.stats.intervals import known
from lossgauge.types import Record

CLASS_COLLAPSED = 0.01
"""intra below this share of inter: every class is close to one point."""
SKIPPED = 0.05
"""Share of anchors without a positive above this."""
INACTIVE = 0.05
"""Gradient active ratio of the last epoch below this share of the first: almost no sample has a gradient."""
STILL_FALLING = 0.6
"""Compaction later than this share of the epochs. An even fall until the last epoch would give 0.9."""
HAS_FLOOR = ("scl", "n_pair")


class HealthWarning(NamedTuple):
    dataset: str
    loss: Loss
    severity: str
    """`bad`, or `note` for something that looks bad but is normal."""
    words: str
    evidence: str
    remedy: str


class WarningGroup(NamedTuple):
    """One warning, with each loss and dataset that it is about."""

    severity: str
    words: str
    remedy: str
    warnings: tuple[HealthWarning, ...]


class _Measured(NamedTuple):
    """One loss on one dataset."""

    view: StudyView
    dataset: str
    loss: Loss

    def mean(self, column: str) -> float | None:
        interval = self.view.interval(self.dataset, self.loss, column)
        return interval.mean if interval else None

    def epochs(self) -> Sequence[Record]:
        return self.view.epochs(self.dataset, self.loss)

    def warn(self, severity: str, words: str, evidence: str, remedy: str) -> HealthWarning:
        return HealthWarning(self.dataset, self.loss, severity, words, evidence, remedy)


def health_warnings(view: StudyView) -> list[HealthWarning]:
    """Warnings about every loss on every dataset: the bad ones first, then in the order of the tables."""
    measured = [
        _Measured(view, dataset, loss)
        for dataset in view.datasets
        for loss in view.losses_and_tuned
    ]
    warnings = [warning for of in measured for check in _CHECKS if (warning := check(of))]
    return sorted(warnings, key=lambda warning: warning.severity)


def grouped(warnings: Sequence[HealthWarning]) -> list[WarningGroup]:
    """Warnings with the same words together, in the order of the first of each."""
    groups: dict[tuple[str, str, str], list[HealthWarning]] = {}
    for warning in warnings:
        groups.setdefault((warning.severity, warning.words, warning.remedy), []).append(warning)
    return [WarningGroup(*key, tuple(members)) for key, members in groups.items()]


def still_falling(view: StudyView, dataset: str, loss: Loss) -> bool:
    """Whether intra was still falling when training ended, so that the compaction epoch is provisional."""
    compaction = view.interval(dataset, loss, "compaction_epochs")
    epochs = view.interval(dataset, loss, "epochs")
    if compaction is None or epochs is None:
        return False
    return compaction.mean > STILL_FALLING * epochs.mean


def _geometry(of: _Measured) -> HealthWarning | None:
    intra, inter, offset = (of.mean(f"test_{name}") for name in ("intra", "inter", "offset"))
    if intra is None or inter is None:
        return None
    evidence = f"intra {intra:.2g}, inter {inter:.2g}"
    if intra < COLLAPSED and inter < COLLAPSED:
        return of.warn(
            "bad",
            "the space has collapsed to one point",
            evidence + "; a triplet loss then stays at its margin and looks healthy",
            "lower the learning rate or the margin, and train again",
        )
    if intra < CLASS_COLLAPSED * inter:
        return of.warn(
            "bad",
            "each class has shrunk to one point",
            evidence,
            "stop earlier or reduce the pull; this is harmless if there are never new classes",
        )
    if offset is not None and offset > ONE_WAY:
        return of.warn(
            "bad",
            "all embeddings point in the same direction, so any two are similar",
            f"offset {offset:.2f} of 1",
            "subtract the mean from the embeddings, or train with a loss that pushes classes apart",
        )
    return None


def _one_class(of: _Measured) -> HealthWarning | None:
    smallest, intra = of.mean("test_smallest_class_intra"), of.mean("test_intra")
    if smallest is None or intra is None or smallest >= CLASS_POINT or intra < COLLAPSED:
        return None
    return of.warn(
        "bad",
        "a class has collapsed to one point, and averages do not show it",
        f"smallest intra of a class {smallest:.1g}, mean over classes {intra:.2g}; classes.parquet in a run's folder names it",
        "look for duplicate images in that class",
    )


def _rank(of: _Measured) -> HealthWarning | None:
    rank = of.mean("test_effective_rank")
    if rank is None or rank >= LEAST_RANK:
        return None
    return of.warn(
        "bad",
        "the space uses little more than one direction",
        f"effective rank {rank:.2f}",
        "a lower learning rate, or a softer loss: a higher temperature or a smaller margin, if it has one",
    )


def _harm(of: _Measured) -> HealthWarning | None:
    losses = of.view.tuned if of.loss.tuned else of.view.losses
    evidence = []
    for column in MEASURES:
        by = compared(of.view, of.dataset, column, losses)
        decision = by and by.decisions.get((of.loss, UNTRAINED_HEAD))
        if by is None or decision is None or decision.side != "lower":
            return None  # one measure alone may fall where the other gains
        over = by.differences[of.loss, UNTRAINED_HEAD]
        evidence.append(f"{by.title} {in_points(over)} points over {over.size} paired seeds")
    return of.warn(
        "bad",
        "training makes retrieval worse: R@1 and MAP@R are both below those of the untrained head",
        "; ".join(evidence),
        "fewer epochs or a lower learning rate",
    )


def _skipped(of: _Measured) -> HealthWarning | None:
    ratios = [v for r in of.epochs() if (v := known(r.get("skipped_anchor_ratio"))) is not None]
    mean = of.mean("skipped_anchor_ratio")
    mean = sum(ratios) / len(ratios) if mean is None and ratios else mean
    if mean is None or mean <= SKIPPED:
        return None
    return of.warn(
        "bad",
        "many samples have no positive in their batch and are skipped",
        f"{100 * mean:.0f} % of anchors skipped",
        "a larger batch, or batches with several samples of each class",
    )


def _inactive(of: _Measured) -> HealthWarning | None:
    rows = of.epochs()
    last = max((int(r["epoch"]) for r in rows), default=0)
    start, end = (_mean_in(rows, "gradient_active_ratio", epoch) for epoch in (1, last))
    # compared with the first epoch: N-pair never has a gradient for more than two samples of a class
    if start is None or end is None or end >= INACTIVE * start:
        return None
    return of.warn(
        "note",
        "the loss has almost no effect at the end: few samples still have a gradient",
        f"{100 * end:.1f} % of samples active (gradient rule) in the last epoch, {100 * start:.0f} % in the first",
        "more epochs will change little; a larger margin or harder batches will change more",
    )


def _mean_in(rows: Sequence[Record], column: str, epoch: int) -> float | None:
    values = [
        v for r in rows if int(r["epoch"]) == epoch and (v := known(r.get(column))) is not None
    ]
    return sum(values) / len(values) if values else None


def _unfinished(of: _Measured) -> HealthWarning | None:
    if not still_falling(*of):
        return None
    compaction, epochs = of.mean("compaction_epochs"), of.mean("epochs")
    return of.warn(
        "note",
        "intra was still falling when training ended, so the compaction epoch is provisional",
        f"compaction {compaction or 0:.1f} of {epochs or 0:.0f} epochs",
        "train longer before you use the compaction epoch, the trade-off or the final intra",
    )


def _decay(of: _Measured) -> HealthWarning | None:
    if of.loss.name not in HAS_FLOOR or of.mean("loss_value") is None:
        return None
    if of.mean("decay_epochs") is not None:
        return None
    return of.warn(
        "note",
        "the loss never fell to 10 % of its first value, which is normal: its lowest value is above 0",
        "decay not reached",
        "use the decay to the floor, in the table “Further readings”",
    )


_CHECKS: tuple[Callable[[_Measured], HealthWarning | None], ...] = (
    _geometry,
    _one_class,
    _rank,
    _harm,
    _skipped,
    _inactive,
    _unfinished,
    _decay,
)
