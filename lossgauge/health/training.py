"""Findings about a training run, from the rows of a probe: the loss, its terms, its gradient, its settings.

Rows are those of steps, or of epochs with the means of their steps. The first and the last tenth of them are compared. Every
check gives a record, also where all is well; a check whose columns are not known gives none. The thresholds are our choice, and
each stands here only; docs/findings.md says on which sets they were fixed and how often they detect a planted fault.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossgauge.data.samplers import TOLERATED_SHARE
from lossgauge.health.finding import Finding, Level, worst_first
from lossgauge.health.loss_values import LossValues, loss_values
from lossgauge.health.records import finding, level_of
from lossgauge.losses.registry import LOSSES, all_settings, our_name, settings_of
from lossgauge.stats.number_format import counted
from lossgauge.types import Record

MOST_ROWS = 10
"""Rows at the start, and at the end, that are averaged: a tenth of all, at most this many."""
AT_COLLAPSE = 0.03
"""A loss this near to its value for a space at one point, as a share of its range, is at it."""
LEARNING = 0.9
"""Loss at the end above this share of the first: it does not fall."""
HAS_FLOOR = 0.1
"""A loss whose value in a perfect space is above this share of its first value cannot fall to a tenth of it."""
SKIPPED = (TOLERATED_SHARE, 0.5)
"""Share of anchors without a positive above this: watch, act."""
ALL_ACTIVE = 0.95
"""Active ratio of a margin loss at the end above this: the margin is beyond most distances."""
SMALL_RANGE = 0.05
"""A perfect space lowers the loss by less than this share: its softmax hardly tells similarities apart."""
ONE_PAIR = (1.0, 0.5)
"""Pairs with weight, for each anchor, below this: watch, act."""
DEAD = 1e-3
"""Gradient at the end below this share of the first: nothing is learned any more."""
LEARNED = 0.1
"""Loss at the end below this share of the first: a vanished gradient is then the end of training, not a fault."""
CLEARED = (0.0, 0.5)
"""Share of updates whose gradients were cleared after backward above this: watch, act."""
EXPLODING = (20.0, 100.0)
"""Gradient at the end above this multiple of the first: watch, act."""
SPIKE = 1000.0
"""Largest gradient above this multiple of the first and of the median: act."""
INACTIVE = 0.05
"""Share of samples with a gradient at the end below this share of the first: almost no sample has one."""
GAP = (10.0, 100.0)
"""intra/inter of the test side above this multiple of the training side: watch, act …"""
WIDE = 0.5
"""… if it is also above this: classes of the test side overlap."""

MARGIN_LOSSES = ("contrastive", "triplet")
TEMPERATURES = ("temperature", "scale")


def training_findings(
    rows: Sequence[Record],
    *,
    loss: str | None = None,
    settings: Mapping[str, object] | None = None,
    batch_size: float | None = None,
    class_count: int | None = None,
    names: Sequence[str] = (),
) -> list[Finding]:
    """What the rows of a probe say about a run, the worst first; an empty list without rows.

    `names` are those of the losses that are added up, the first one first: `loss` is then that one, its value
    `loss_value_<name>`, and the gradients are those of the sum.

    `loss` is one of our losses by any of its names, with its `settings`; for another loss only its gradient and its terms
    are checked. The number of rows in a batch and of classes are needed for the values that a loss is compared with.
    """
    if not rows:
        return []
    of = _run(rows, loss, settings or {}, batch_size, class_count, names)
    checks = (
        _not_finite,
        _at_collapse,
        _floor,
        _no_positives,
        _no_negatives,
        _margin,
        _temperature,
        _dead_gradient,
        _cleared_gradient,
        _exploding_gradient,
        _few_active,
        _gap,
    )
    return worst_first(found for check in checks if (found := check(of)) is not None)


class _Run(NamedTuple):
    """The rows of a run, and what is known about its loss."""

    rows: Sequence[Record]
    alone: Sequence[Record]
    """The same rows, with the value and the gradient of the first loss where several are added up."""
    subject: str
    """The name of the first loss."""
    whole: str
    """The names of all losses."""
    loss: str
    """One of ours, or empty."""
    settings: Mapping[str, object]
    batch_size: float | None
    values: LossValues | None

    def numbers(self, column: str) -> list[float]:
        return [
            float(v) for row in self.rows if (v := row.get(column)) is not None and math.isfinite(v)
        ]

    def start(self, column: str) -> float | None:
        numbers = self.numbers(column)
        return fmean(numbers[: _part(numbers)]) if numbers else None

    def end(self, column: str) -> float | None:
        numbers = self.numbers(column)
        return fmean(numbers[-_part(numbers) :]) if numbers else None

    def ratio(self, column: str) -> float | None:
        """End divided by start; None if one is not known or the start is 0."""
        start, end = self.start(column), self.end(column)
        return end / start if start and end is not None else None


def _part(numbers: Sequence[float]) -> int:
    return max(1, min(MOST_ROWS, len(numbers) // 10))


def _run(
    rows: Sequence[Record],
    loss: str | None,
    settings: Mapping[str, object],
    batch_size: float | None,
    class_count: int | None,
    names: Sequence[str],
) -> _Run:
    name = our_name(loss) if loss else ""
    ours = name if name in LOSSES else ""
    terms = [float(count) for row in rows if (count := row.get("term_count"))]
    return _Run(
        rows=rows,
        alone=rows if len(names) < 2 else [_alone(row, names[0]) for row in rows],
        subject=names[0] if names else loss or "the loss",
        whole=" + ".join(names) or loss or "the loss",
        loss=ours,
        settings=all_settings(ours, settings) if ours else settings,
        batch_size=batch_size,
        values=loss_values(
            loss,
            settings,
            batch_size=batch_size,
            class_count=class_count,
            term_count=fmean(terms) if terms else None,
        ),
    )


def _alone(row: Record, name: str) -> Record:
    forces = [force for force in (row.get("pull"), row.get("push")) if force is not None]
    return {
        **row,
        "loss_value": row.get(f"loss_value_{name}"),
        "embedding_gradient": sum(forces) if forces else row.get("embedding_gradient"),
    }


def _not_finite(of: _Run) -> Finding | None:
    columns = ("loss_value", "embedding_gradient", "head_gradient")
    bad = [
        (row, column)
        for row in of.rows
        for column in columns
        if row.get(column) is not None and not math.isfinite(row[column])
    ]
    if not bad:
        return None
    row, column = bad[0]
    at = f"step {row['step']}" if row.get("step") is not None else f"epoch {row.get('epoch', '?')}"
    what = "the loss" if column == "loss_value" else "the gradient"
    return finding(
        "not-finite",
        "act",
        of.whole,
        f"{what} is {row[column]} from {at} on",
        "it must be a finite number",
        why="Numbers that are not finite spread to all weights with the next update.",
        advice="lower the learning rate, or clip: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`; with a small "
        "temperature compute the loss in float32, outside autocast",
    )


def _at_collapse(of: _Run) -> Finding | None:
    of = of._replace(rows=of.alone)
    start, end = of.start("loss_value"), of.end("loss_value")
    if of.values is None or end is None or of.values.range <= 0:
        return None
    collapsed, perfect = of.values
    near, stayed = (
        value is not None and abs(value - collapsed) <= AT_COLLAPSE * of.values.range
        for value in (end, start)
    )
    gradient = of.ratio("embedding_gradient")
    no_force = gradient is None and not of.end("embedding_gradient")
    level: Level = "ok"
    above = end > collapsed + AT_COLLAPSE * of.values.range
    if above and start is not None and end > LEARNING * start:
        if len(of.rows) < MOST_ROWS:
            return None  # a start that is above falls soon, or it does not: too early to say
        return _above_collapse(of, start, end)
    if near:
        lost = no_force or (gradient is not None and gradient <= LEARNED)
        level = "act" if lost or (stayed and len(of.rows) >= MOST_ROWS) else "watch"
    force = "" if gradient is None else f", and its gradient {gradient:.2g} times its first size"
    return finding(
        "loss-at-collapse",
        level,
        of.subject,
        f"the loss ends at {end:.3g}{'' if start is None else f' after {start:.3g}'}{force if near else ''}",
        f"about {collapsed:.3g} if all embeddings are one point, about {perfect:.3g} in a perfect space",
        why="That is its value when all embeddings are one point: it has learned nothing, or the space has collapsed."
        + (
            " A triplet loss at its margin, with every triplet active and no gradient, does not recover."
            if of.loss == "triplet"
            else ""
        ),
        advice="look at the finding `collapse` of the embeddings; start again with a tenth of the learning rate, and with "
        "normalised embeddings",
    )


def _above_collapse(of: _Run, start: float, end: float) -> Finding:
    assert of.values is not None
    return finding(
        "loss-at-collapse",
        "watch",
        of.subject,
        f"the loss ends at {end:.3g} after {start:.3g}, above its value for one point",
        f"about {of.values.collapsed:.3g} if all embeddings are one point, about {of.values.perfect:.3g} in a perfect space",
        why="It is worse than if all embeddings were equal, and does not fall: samples are nearer to other classes than to their own.",
        advice="lower the learning rate; check that labels[i] belongs to the i-th sample",
    )


def _is_collapsed(of: _Run) -> bool:
    found = _at_collapse(of)
    return found is not None and found.level == "act"


def _floor(of: _Run) -> Finding | None:
    of = of._replace(rows=of.alone)
    first, end = of.start("loss_value"), of.end("loss_value")
    if of.values is None or end is None or first is None or of.values.perfect <= HAS_FLOOR * first:
        return None
    return finding(
        "loss-floor",
        "ok",
        of.subject,
        f"the loss ends at {end:.3g}",
        f"a perfect space has about {of.values.perfect:.3g} with these batches, so a loss that does not come near 0 is normal",
    )


def _no_positives(of: _Run) -> Finding | None:
    rows = [row for row in of.rows if not _is_of_one_class(row)]
    shares = of._replace(rows=rows).numbers("skipped_anchor_ratio")
    if not shares:
        return None
    share = fmean(shares)
    return finding(
        "no-positives",
        level_of(share, SKIPPED),
        of.subject,
        f"{share:.0%} of the samples have no positive in their batch",
        f"above {SKIPPED[0]:.0%} they are too many",
        why="Samples without a positive are skipped as anchors: they are only pushed away, or do nothing.",
        advice="batches with several samples of each class: `sampler: m_per_class` in a study, "
        "`MPerClassSampler(labels, m=4)` of pytorch-metric-learning in your loop; or a larger batch",
    )


def _is_of_one_class(row: Record) -> bool:
    """Whether each batch of an update has rows of one class only; a batch of one row is another case."""
    return row.get("batch_class_count") == 1 and row.get("lone_ratio") == 0


def _no_negatives(of: _Run) -> Finding | None:
    known = [row for row in of.rows if row.get("batch_class_count") is not None]
    if not known:
        return None
    one_class = [row for row in known if _is_of_one_class(row)]
    share = len(one_class) / len(known)
    level = level_of(share, SKIPPED)
    needs_pairs = of.loss in _OF_PAIRS or any(
        row.get("skipped_anchor_ratio") == 1 for row in one_class
    )
    return finding(
        "no-negatives",
        level if needs_pairs or level == "ok" else "watch",
        of.subject,
        f"{share:.0%} of the updates are of batches of one class",
        f"above {SKIPPED[0]:.0%} they are too many",
        why="A loss of pairs or triplets has nothing to push apart in such a batch: it does nothing, or only pulls all rows together. A loss "
        "with class rows trains one class and forgets the others. Usually the rows are sorted by class.",
        advice="`DataLoader(..., shuffle=True)`, or a sampler that puts several classes into each batch: `sampler: m_per_class` in a study, "
        "`MPerClassSampler(labels, m=4)` of pytorch-metric-learning in your loop",
    )


_OF_PAIRS = ("contrastive", "triplet", "n_pair", "info_nce", "scl")


def _has_no_terms(of: _Run) -> bool:
    """Whether the batches give the loss nothing to do, which is another finding than a gradient that is lost."""
    found = _no_negatives(of)
    terms = of.numbers("term_count")
    return (found is not None and found.level == "act") or (bool(terms) and max(terms) == 0)


def _margin(of: _Run) -> Finding | None:
    margin = of.settings.get("margin")
    active = of.end("term_active_ratio")
    if of.loss not in MARGIN_LOSSES or not isinstance(margin, float | int):
        return None
    low, high = _usual(of.loss, "margin")
    beyond = of.values is not None and of.values.perfect > 0
    # at its collapse value every term is active too, which is another finding
    all_active = active is not None and active > ALL_ACTIVE and not _is_collapsed(of)
    few = _few_active(of)
    none_left = few is not None and few.level != "ok"
    level: Level = "ok"
    too = "large"
    if beyond or all_active:
        # a search may choose any usual margin, so none of them makes a result useless
        level = "act" if beyond and all_active and margin > high else "watch"
    elif margin < low:
        level, too = (
            ("act" if none_left or (active is not None and active < DEAD) else "watch"),
            "small",
        )
    elif margin > high:
        level = "watch"
    terms = "" if active is None else f", and {active:.0%} of its terms are active at the end"
    default = _default(of.loss, "margin")
    if all_active and not beyond and margin <= default:
        # a usual margin: the distances are too small, not the margin too large
        why = (
            "Nearly every term is still active, so the classes are not apart by the margin: the training has only begun, the "
            "embeddings are not normalised, or the margin is too large for this data."
        )
        advice = f"more epochs with normalised embeddings; if they change nothing, {_setting(of, 'margin', margin / 2)}"
        return finding(
            "margin",
            level,
            of.subject,
            *_margin_facts(margin, terms, low, high),
            why=why,
            advice=advice,
        )
    why = (
        "The margin is larger than the distances that are possible or usual, so (nearly) every term stays active and the loss "
        "never says that a pair is good enough."
        if too == "large"
        else "The margin is small beside the distances, so terms are satisfied at once and the loss stops while classes still touch."
    )
    return finding(
        "margin",
        level,
        of.subject,
        *_margin_facts(margin, terms, low, high),
        why=why,
        advice=f"{_setting(of, 'margin', default)} with normalised embeddings; in a study, a search: `--set tune.trials=20`",
    )


def _margin_facts(margin: float, terms: str, low: float, high: float) -> tuple[str, str]:
    return (
        f"the margin is {margin:g}{terms}",
        f"{low:g} to {high:g} is usual for unit vectors, whose squared distances are at most 4 (about 2 between classes)",
    )


def _setting(of: _Run, key: str, value: float) -> str:
    """A setting as it is written in a loop and in a study."""
    return f"`lg.load_loss({of.loss!r}, {key}={value:g})` (in a study `{key}: {value:g}`)"


def _temperature(of: _Run) -> Finding | None:
    key = next((key for key in TEMPERATURES if key in of.settings), None)
    if not of.loss or key is None:
        return None
    value = float(of.settings[key])  # type: ignore[arg-type]
    low, high = _usual(of.loss, key)
    shown = f"the {key} is {value:g}"
    soft: Level = "ok"
    if value > high if key == "temperature" else value < low:
        soft = "watch"
    fall = of.values and 1 - of.values.perfect / of.values.collapsed
    if fall is not None and fall < SMALL_RANGE:
        soft = "act"
        shown += f", so that even a perfect space lowers the loss by only {fall:.1%}"
    hard: Level = "ok"
    share = of.end("effective_share")
    pairs = (
        share * of.batch_size
        if share is not None and of.batch_size and key == "temperature"
        else None
    )
    if value < low if key == "temperature" else value > high:
        hard = (
            "watch" if pairs is None else max(("watch", level_of(pairs, ONE_PAIR)), key=_RANK.index)
        )
        if pairs is not None:
            shown += f", and about {pairs:.2g} pairs of an anchor have weight at the end"
    is_soft = soft != "ok"
    why = (
        "The softmax hardly tells similarities apart: all pairs get the same weight, and the gradient does not fall as classes separate."
        if is_soft
        else "The softmax looks only at the nearest pair of an anchor, so a wrong label or a copy decides its update."
    )
    return finding(
        "temperature",
        soft if is_soft else hard,
        of.subject,
        shown,
        f"{low:g} to {high:g} is usual for cosines of unit vectors",
        why=why,
        advice=f"{_setting(of, key, _default(of.loss, key))} with normalised embeddings",
    )


_RANK: tuple[Level, ...] = ("ok", "watch", "act")


def _dead_gradient(of: _Run) -> Finding | None:
    start, end = of.start("embedding_gradient"), of.end("embedding_gradient")
    if start is None or end is None or _has_no_terms(of):
        return None
    is_dead = end <= DEAD * start
    fall = of.ratio("loss_value")
    learned = fall is not None and fall < LEARNED
    if of.alone is of.rows and of.values is not None and (last := of.end("loss_value")) is not None:
        learned = learned or last - of.values.perfect < LEARNED * of.values.range
    level: Level = "ok" if not is_dead else "watch" if learned and start > 0 else "act"
    if end > 0 and of.end("head_gradient") == 0:
        return finding(
            "dead-gradient",
            "act",
            of.whole,
            f"the gradient at the embeddings is {end:.2g}, but 0 at the weights",
            "a gradient at the embeddings must reach the weights",
            why="Something between the weights and the embeddings stops the gradient: a rounding, a dead activation, a frozen part.",
            advice="look for `.round()`, `.detach()`, `torch.no_grad()` and `requires_grad_(False)` between the weights and `z`; for dead "
            "ReLUs, a lower learning rate and a new start",
        )
    return finding(
        "dead-gradient",
        level,
        of.whole,
        f"the gradient at the embeddings ends at {end:.2g}, after {start:.2g} at the start"
        + (", and the loss is at its end" if is_dead and learned else ""),
        f"below {DEAD:g} of the first nothing is learned any more",
        why="No gradient reaches the embeddings, so the weights do not change any more.",
        advice=f"fewer epochs, or {_harder(of)}"
        if level == "watch"
        else "check that the loss is computed from `z` itself, without `.detach()`, `.data`, `no_grad()` or a rounding; see "
        "whether the finding `collapse` says that the space has collapsed",
    )


def _cleared_gradient(of: _Run) -> Finding | None:
    pairs = [
        (before, after)
        for row in of.rows
        if (before := row.get("head_gradient"))
        and (after := row.get("clipped_head_gradient")) is not None
    ]
    if not pairs:
        return None
    share = fmean(after == 0 for _, after in pairs)
    return finding(
        "cleared-gradient",
        level_of(share, CLEARED),
        of.whole,
        f"the gradients were cleared between backward and the update in {share:.0%} of the updates",
        "`backward()` and `step()` must follow each other",
        why="The update has no gradient to use, so the weights stay as they are, and nothing fails.",
        advice="`optimizer.zero_grad()` before `backward()` or after `step()`, never between them",
    )


def _exploding_gradient(of: _Run) -> Finding | None:
    worst: tuple[float, str] | None = None
    level: Level = "ok"
    if _is_collapsed(of):
        return None  # what is left of the gradient is rounding
    for column, where in (("embedding_gradient", "embeddings"), ("head_gradient", "weights")):
        # a step whose batch has no term has no gradient, and says nothing about its size
        numbers = [number for number in of.numbers(column) if number > 0]
        if not numbers:
            continue
        start, end = fmean(numbers[: _part(numbers)]), fmean(numbers[-_part(numbers) :])
        spike = max(numbers) / max(start, sorted(numbers)[len(numbers) // 2])
        found: Level = "act" if spike > SPIKE else level_of(end / start, EXPLODING)
        if worst is None or _RANK.index(found) > _RANK.index(level):
            level, worst = found, (spike if spike > SPIKE else end / start, where)
    if worst is None:
        return None
    return finding(
        "exploding-gradient",
        level,
        of.whole,
        f"the gradient at the {worst[1]} is {worst[0]:.3g} times its first or its usual size",
        f"above {EXPLODING[0]:g} it grows without limit; a factor near 1 or below is usual",
        why="Updates grow, and with them the embeddings or the weights: the run diverges, or is about to.",
        advice="lower the learning rate; normalise the embeddings; clip: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`",
    )


def _few_active(of: _Run) -> Finding | None:
    # compared with the start: N-pair never has a gradient for more than two samples of a class
    start, end = of.start("gradient_active_ratio"), of.end("gradient_active_ratio")
    if not start or end is None or _is_collapsed(of) or _has_no_terms(of):
        return None
    return finding(
        "few-active",
        "watch" if end < INACTIVE * start else "ok",
        of.whole,
        f"{end:.1%} of the samples have a gradient at the end, {start:.0%} at the start",
        f"below {INACTIVE:.0%} of the first share the loss has almost no effect",
        why="Almost no sample is still moved: more epochs will change little.",
        advice=f"stop here; {_harder(of)} change more",
    )


def _harder(of: _Run) -> str:
    """What gives samples a gradient again."""
    return "a larger margin or harder batches" if of.loss in MARGIN_LOSSES else "harder batches"


def _gap(of: _Run) -> Finding | None:
    train, test = of.end("train_intra_inter_ratio"), of.end("test_intra_inter_ratio")
    if not train or test is None:
        return None
    wide = test > WIDE
    return finding(
        "train-test-gap",
        level_of(test / train, GAP) if wide else "ok",
        of.subject,
        f"intra/inter is {train:.2g} on the training side and {test:.2g} on the test side",
        f"more than {GAP[0]:g} times, and above {WIDE:g}, means that classes are learned by heart",
        why="Training samples are in tight classes and test samples are not: the classes were learned by heart.",
        advice="fewer epochs (`selection: best-validation`), weight_decay, or more training classes; where test classes are new, some gap is normal",
    )


def optimizer_findings(
    optimizers: Iterable[torch.optim.Optimizer],
    loss: nn.Module,
    *,
    changed: Collection[int] = (),
) -> list[Finding]:
    """Whether all parameters of a loss, such as the class rows of ArcFace, are in one of the optimisers.

    `changed` are the ids of parameters whose values were seen to change: those are trained by another optimiser. An empty list for a loss without parameters that need a gradient.
    """
    trained = {
        id(p) for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]
    }
    own = {name: p for name, p in loss.named_parameters() if p.requires_grad}
    if not own:
        return []
    missing = [name for name, p in own.items() if id(p) not in trained]
    if missing and all(id(own[name]) in changed for name in missing):
        return [_trained_elsewhere(missing, type(loss).__name__)]
    missing = [name for name in missing if id(own[name]) not in changed]
    return [
        finding(
            "untrained-loss-parameters",
            "act" if missing else "ok",
            ", ".join(missing) if missing else type(loss).__name__,
            f"{len(missing)} of {len(own)} parameters of the loss {type(loss).__name__} are not in the optimizer",
            "all must be, or they stay as they were drawn at random",
            why="The class rows (proxies, centers) of the loss stay random, so embeddings are pulled to random directions.",
            advice="torch.optim.Adam([*model.parameters(), *loss.parameters()])",
        )
    ]


def _trained_elsewhere(parameters: Sequence[str], loss: str) -> Finding:
    return finding(
        "untrained-loss-parameters",
        "watch",
        ", ".join(parameters),
        f"no optimizer of the probe has {counted(len(parameters), 'parameter')} of the loss {loss}, but the values change",
        "the probe sees the gradients of the optimizers that it was given",
        why="Another optimizer trains this part of the loss, so its `loss_gradient` is not known.",
        advice="lg.Probe([optimizer, other_optimizer], loss=loss)",
    )


def label_findings(loss: object, embeddings: Tensor, labels: Tensor) -> list[Finding]:
    """Whether the labels of a batch enter the value or the gradient of a loss. Calls the loss a few times, on copies.

    Labels of shape (B, 1) against distances of shape (B,) broadcast to (B, B): each distance then meets each label, and
    only the number of equal labels counts. An empty list if all labels are equal, or all differ.
    """
    if labels.unique().numel() in (1, len(labels)):
        return []
    ignored = ignores_labels(loss, embeddings, labels)
    return [
        finding(
            "labels-unused",
            "act" if ignored else "ok",
            type(loss).__name__
            if isinstance(loss, nn.Module)
            else getattr(loss, "__name__", "the loss"),
            "with shuffled labels, the loss and its gradient are the same"
            if ignored
            else "with shuffled labels, the loss is another one",
            "the loss must depend on which row has which label",
            why="The labels do not enter the loss row by row. Often a column of labels, shape (B, 1), meets distances of shape (B,): "
            "both broadcast to (B, B), and every distance meets every label.",
            advice="print the shapes before the product; `labels = labels.view(-1)`, or `labels.squeeze(1)`",
        )
    ]


def ignores_labels(loss: object, embeddings: Tensor, labels: Tensor) -> bool:
    """Whether a loss has the same value and gradient when labels are dealt to other rows, so that other pairs are equal.

    At least two classes must have rows, and one of them two, or no order of the labels makes other pairs. A batch that
    gives no gradient shows nothing: the answer is no.
    """
    expected = _value_and_gradient(loss, embeddings, labels)
    if not expected[1].any():
        return False
    same = labels[:, None] == labels
    generator = torch.Generator().manual_seed(0)
    for _ in range(_DEALS):
        dealt = labels[torch.randperm(len(labels), generator=generator).to(labels.device)]
        if not torch.equal(dealt[:, None] == dealt, same):
            found = _value_and_gradient(loss, embeddings, dealt)
            return all(
                torch.allclose(a, b, equal_nan=True) for a, b in zip(expected, found, strict=True)
            )
    return False


_DEALS = 100
"""Orders of the labels that are tried until one makes other pairs; of three labels with two equal, a third do not."""


def _value_and_gradient(loss: object, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().clone().requires_grad_()
    value: Tensor = loss(leaf, labels)  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return value.detach(), torch.zeros_like(leaf) if gradient is None else gradient


def _usual(loss: str, key: str) -> tuple[float, float]:
    """The range of a setting that a search tries: beyond it, the setting is unusual."""
    searched = settings_of(loss)[key].search
    return (searched.low, searched.high) if searched else (-math.inf, math.inf)


def _default(loss: str, key: str) -> float:
    return float(settings_of(loss)[key].default)
