"""Bad signs in the records, in words: what is seen, by which number, and one thing to try.

The thresholds are our choice, set where a result is of little use rather than merely not good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lossgauge.diagnostics.health import CLASS_POINT, COLLAPSED, LEAST_RANK, ONE_WAY
from lossgauge.report.contents import datasets_of, losses_and_tuned
from lossgauge.report.naming import UNTRAINED
from lossgauge.report.rankings import difference, in_points
from lossgauge.report.tables import measured
from lossgauge.stats.intervals import known
from lossgauge.types import Record, Results

CLASS_COLLAPSED = 0.01
"""intra below this share of inter: every class a point."""
SKIPPED = 0.05
SPENT = 0.05
"""Gradient active ratio of the last epoch below this: hardly a sample is still moved."""
STILL_FALLING = 0.6
"""Compaction later than this share of the epochs: an even fall to the last epoch would be done at 0.9."""
HAS_FLOOR = ("scl", "n_pair")


class Sign(NamedTuple):
    dataset: str
    loss: str
    severity: str
    """`bad`, or `note` for what looks bad and is normal."""
    words: str
    evidence: str
    remedy: str


class _Reading(NamedTuple):
    """One loss on one dataset."""

    results: Results
    dataset: str
    loss: str

    def mean(self, column: str) -> float | None:
        over = measured(self.results, self.dataset, self.loss, column)
        return over.mean if over else None

    def sign(self, severity: str, words: str, evidence: str, remedy: str) -> Sign:
        return Sign(self.dataset, self.loss, severity, words, evidence, remedy)


class SignGroup(NamedTuple):
    """One sign and all that show it."""

    severity: str
    words: str
    remedy: str
    signs: tuple[Sign, ...]


def grouped(found: Sequence[Sign]) -> list[SignGroup]:
    """Signs of the same words together, in the order of their first."""
    groups: dict[tuple[str, str, str], list[Sign]] = {}
    for sign in found:
        groups.setdefault((sign.severity, sign.words, sign.remedy), []).append(sign)
    return [SignGroup(*key, tuple(members)) for key, members in groups.items()]


def signs(results: Results) -> list[Sign]:
    """Signs of every loss on every dataset: the bad ones first, else in the order of the tables."""
    checks: tuple[Callable[[_Reading], Sign | None], ...] = (
        _geometry,
        _one_class,
        _rank,
        _harm,
        _skipped,
        _spent,
        _unfinished,
        _decay,
    )
    readings = [
        _Reading(results, dataset, loss)
        for dataset in datasets_of(results)
        for loss in losses_and_tuned(results)
    ]
    found = [sign for reading in readings for check in checks if (sign := check(reading))]
    return sorted(found, key=lambda sign: sign.severity)


def _geometry(of: _Reading) -> Sign | None:
    intra, inter, offset = (of.mean(f"test_{name}") for name in ("intra", "inter", "offset"))
    if intra is None or inter is None:
        return None
    evidence = f"intra {intra:.2g}, inter {inter:.2g}"
    if intra < COLLAPSED and inter < COLLAPSED:
        return of.sign(
            "bad",
            "the space has collapsed to one point",
            evidence + "; a triplet loss then stands still at its margin and looks healthy",
            "lower the learning rate, or a smaller margin, and start anew",
        )
    if intra < CLASS_COLLAPSED * inter:
        return of.sign(
            "bad",
            "each class has shrunk to a point",
            evidence,
            "harmless if the classes stay these; for unseen ones stop earlier or soften the pull",
        )
    if offset is not None and offset > ONE_WAY:
        return of.sign(
            "bad",
            "all embeddings point the same way, so any two look alike",
            f"offset {offset:.2f} of 1",
            "subtract the mean of the embeddings before comparing, or take a loss that pushes more",
        )
    return None


def _one_class(of: _Reading) -> Sign | None:
    smallest, intra = of.mean("test_smallest_class_intra"), of.mean("test_intra")
    if smallest is None or intra is None or smallest >= CLASS_POINT or intra < COLLAPSED:
        return None
    return of.sign(
        "bad",
        "a class has collapsed to one point, which the averages hide",
        f"smallest intra of a class {smallest:.1g}, mean {intra:.2g}; classes.parquet of a run names it",
        "look for duplicated images in that class",
    )


def _rank(of: _Reading) -> Sign | None:
    rank = of.mean("test_effective_rank")
    if rank is None or rank >= LEAST_RANK:
        return None
    return of.sign(
        "bad",
        "the space uses hardly more than one direction",
        f"effective rank {rank:.2f}",
        "a higher temperature, a smaller margin or a lower learning rate",
    )


def _harm(of: _Reading) -> Sign | None:
    over = difference(of.results, of.dataset, of.loss, UNTRAINED, "recall_at_1")
    if over is None or over.mean >= 0 or not over.excludes_zero:
        return None
    return of.sign(
        "bad",
        "training this head harms retrieval: R@1 is below that of the untrained head",
        f"difference {in_points(over)} points over {over.size} paired seeds",
        "fewer epochs, a lower learning rate or a higher temperature",
    )


def _skipped(of: _Reading) -> Sign | None:
    rows = [r for r in of.results.epochs if (r["dataset"], r["loss"]) == of[1:]]
    ratios = [v for r in rows if (v := known(r.get("skipped_anchor_ratio"))) is not None]
    mean = of.mean("skipped_anchor_ratio")
    mean = sum(ratios) / len(ratios) if mean is None and ratios else mean
    if mean is None or mean <= SKIPPED:
        return None
    return of.sign(
        "bad",
        "many samples find no partner in their batch and are left out",
        f"{100 * mean:.0f} % of anchors skipped",
        "a larger batch, or batches with several samples of each class",
    )


def _spent(of: _Reading) -> Sign | None:
    rows = [r for r in of.results.epochs if (r["dataset"], r["loss"]) == of[1:]]
    last = max((int(r["epoch"]) for r in rows), default=0)
    start, end = (_mean_in(rows, "gradient_active_ratio", epoch) for epoch in (1, last))
    # against the first epoch: N-pair never moves more than two samples a class
    if start is None or end is None or end >= SPENT * start:
        return None
    return of.sign(
        "note",
        "the loss is spent: hardly a sample is still moved at the end",
        f"{100 * end:.1f} % of samples active (gradient rule) in the last epoch, {100 * start:.0f} % in the first",
        "more epochs will change little; a larger margin or harder batches would",
    )


def _mean_in(rows: list[Record], column: str, epoch: int) -> float | None:
    values = [
        v for r in rows if int(r["epoch"]) == epoch and (v := known(r.get(column))) is not None
    ]
    return sum(values) / len(values) if values else None


def still_falling(results: Results, dataset: str, loss: str) -> bool:
    """Whether intra had not settled when training ended, so that compaction is no end point yet."""
    compaction = measured(results, dataset, loss, "compaction_epochs")
    epochs = measured(results, dataset, loss, "epochs")
    if compaction is None or epochs is None:
        return False
    return compaction.mean > STILL_FALLING * epochs.mean


def _unfinished(of: _Reading) -> Sign | None:
    if not still_falling(of.results, of.dataset, of.loss):
        return None
    compaction, epochs = of.mean("compaction_epochs"), of.mean("epochs")
    return of.sign(
        "note",
        "intra was still falling when training ended, so the compaction epoch is provisional",
        f"compaction {compaction or 0:.1f} of {epochs or 0:.0f} epochs",
        "train longer before reading the speed of compaction, the trade-off or the final intra",
    )


def _decay(of: _Reading) -> Sign | None:
    base = of.loss.partition("(")[0]
    if base not in HAS_FLOOR or of.mean("loss_value") is None:
        return None
    if of.mean("decay_epochs") is not None:
        return None
    return of.sign(
        "note",
        "the loss never fell to 10 % of its start, which is normal: it has a floor above 0",
        "decay not reached",
        "read the decay to the floor instead, under the further readings",
    )
