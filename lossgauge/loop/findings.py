"""What a probe's rows, its losses and its last epoch say, by the rules of `lossgauge.health`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lossgauge.distributed.gathered_loss import Gathered
from lossgauge.health.finding import Finding, worst_first
from lossgauge.health.records import finding
from lossgauge.loop.hooks import unwrapped_loss
from lossgauge.loop.optimizers import checksums
from lossgauge.losses.base import Loss
from lossgauge.stats.number_format import counted
from lossgauge.types import Record

if TYPE_CHECKING:
    from lossgauge.diagnostics.variance import Geometry


class Space(NamedTuple):
    """The space after the last epoch."""

    geometry: Geometry
    """Of normalized rows."""
    width: int


def findings(
    rows: Sequence[Record],
    *,
    losses: Sequence[str],
    modules: Sequence[nn.Module | None],
    model: nn.Module | None,
    optimizers: Sequence[torch.optim.Optimizer],
    at_first: Mapping[int, Tensor],
    batch: tuple[Tensor, Tensor] | None,
    space: Space | None,
    left_out: Sequence[Record] = (),
    never_stepped: Sequence[int] = (),
    without_rate: int = 0,
    relabelled: Sequence[tuple[int, int]] = (),
) -> list[Finding]:
    """All findings, the worst first. `batch` is what the first loss was called with last, if it takes embeddings and labels.

    `modules` are the losses, None for a function, and `losses` their names; `at_first` is what `checksums` gave at the first
    batch. `left_out` are rows that are not in `rows` because they are not finite, `never_stepped` the places of optimisers
    without an update, `without_rate` the updates with learning rate 0 if all were, and `relabelled` the updates whose loss got other classes than the probe: the step, and the first such row.
    """
    training, of_space = (import_module(f"lossgauge.health.{n}") for n in ("training", "space"))
    # a function before a module is the first loss, and nothing is known of it
    first: Any = unwrapped_loss(modules[0]) if modules and modules[0] is not None else None
    if isinstance(first, Gathered):
        first = first.loss  # alone: the other ranks may not ask for findings
    ours = first if isinstance(first, Loss) else None
    made = [row for row in rows if not row["skipped"]]
    paired = [row for row in made if not _is_one_row(row)] or made
    bad = sorted((row for row in (*made, *left_out) if row["not_finite"]), key=_step)
    found: list[Finding] = training.training_findings(
        _with_nan(paired, left_out),
        names=losses,
        loss=None if ours is None else type(ours).__name__,
        settings=None if ours is None else {key: getattr(ours, key) for key in ours.settings},
        batch_size=_mean([row["batch_size"] / (row["micro_batch_count"] or 1) for row in paired]),
        class_count=_rounded(_mean([row["batch_class_count"] for row in paired])),
    )
    found = [_where(one, bad, left_out) if one.name == "not-finite" else one for one in found]
    found += [_never_stepped(place, optimizers[place]) for place in never_stepped]
    if relabelled:
        found.append(_relabelled(relabelled))
    if without_rate >= MOST_UPDATES_AT_0:
        found.append(_without_rate(without_rate))
    changed = _changed(modules, at_first, optimizers)
    for module in modules:
        if module is not None:
            found += training.optimizer_findings(optimizers, module, changed=changed)
    if model is not None:
        found += _outside(model, optimizers)
    if first is not None and batch is not None and bool(batch[0].isfinite().all()):
        # on a copy, and with other random numbers: the training goes on as if nothing had been asked
        with torch.random.fork_rng(devices=[]):
            found += training.label_findings(copy.deepcopy(first), *batch)
    if space is not None:
        found += of_space.space_findings(space.geometry, width=space.width)
    return worst_first(_without_consequences(found, made))


def _step(row: Record) -> int:
    step: int = row["step"]
    return step


def _with_nan(rows: Sequence[Record], left_out: Sequence[Record]) -> list[Record]:
    """The rows as the rules want them: a row of a probe has None where a number is not finite, and says so in a column."""
    marked = [{**row, "loss_value": math.nan} if row["not_finite"] else row for row in rows]
    empty = [{"step": row["step"], "loss_value": math.nan} for row in left_out]
    return sorted((*marked, *empty), key=_step)


def _where(found: Finding, bad: Sequence[Record], left_out: Sequence[Record]) -> Finding:
    """`not-finite`, with what was not finite first, and how often."""
    evidence = f"{bad[0]['not_finite']} is not finite at step {bad[0]['step']}"
    if len(bad) > 1:
        evidence += f"; it is the first of {len(bad)} such updates"
    if left_out:
        evidence += f", and {len(left_out)} are left out of the rows"
    return found._replace(evidence=evidence)


def _is_one_row(row: Record) -> bool:
    """Whether its batches have one row each, as the last one of an epoch may: without a pair, it says nothing of a loss of pairs."""
    return row["batch_size"] <= (row["micro_batch_count"] or 1) and not row["not_finite"]


def _changed(
    modules: Sequence[nn.Module | None],
    at_first: Mapping[int, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
) -> set[int]:
    """Ids of the parameters of losses that no optimiser of the probe has, and that change all the same."""
    return {
        key
        for key, now in checksums(modules, optimizers).items()
        if key in at_first and not torch.equal(now, at_first[key].to(now.device))
    }


def _outside(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> list[Finding]:
    trained = {id(p) for of in optimizers for group in of.param_groups for p in group["params"]}
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, p in own.items() if id(p) not in trained]
    if not own:
        return []
    return [
        finding(
            "untrained-model-parameters",
            "watch" if missing else "ok",
            "the model",
            f"no optimizer of the probe has {len(missing)} of {counted(len(own), 'parameter')} that need a gradient"
            + (f"; the first is {missing[0]}" if missing else ""),
            "all should be: `head_gradient` is that of the probe's optimizers",
            why="They stay as they are, unless another optimizer trains them, which the probe does not see.",
            advice="torch.optim.Adam(model.parameters()), or `requires_grad_(False)` where they shall not train; with several "
            "optimizers `lg.Probe([one, other], ...)`",
        )
    ]


MOST_UPDATES_AT_0 = 10
"""A warm-up may begin at a learning rate of 0, but not stay there for so many updates."""


def _without_rate(count: int) -> Finding:
    return finding(
        "zero-learning-rate",
        "act",
        "the optimizer",
        f"the learning rate was 0 in all {count} updates",
        "above 0 after the warm-up",
        why="The weights stay as they are.",
        advice="set `lr` above 0, and look at what the scheduler gives: `scheduler.get_last_lr()`",
    )


def _never_stepped(place: int, optimizer: torch.optim.Optimizer) -> Finding:
    name = type(optimizer).__name__
    return finding(
        "never-stepped",
        "act",
        f"optimizer {place + 1} ({name})",
        "it has made no update, while another optimizer has",
        "each optimizer of the probe must be stepped",
        why="Its parameters stay as they were, and nothing fails.",
        advice="call its `step()` after `backward`; if it shall not train now, leave it out of `lg.Probe([...])`",
    )


def _relabelled(updates: Sequence[tuple[int, int]]) -> Finding:
    step, row = updates[0]
    return finding(
        "other-labels",
        "act",
        "the labels",
        f"in {len(updates)} updates the loss got other classes than `probe.embeddings`, first at step {step}, row {row}",
        "both must put the same rows in one class; the numbers of the classes may differ",
        why="Either the loss trains on wrong labels, or `batch_class_count` and `lone_ratio` are those of another batch.",
        advice="give `probe.embeddings(z, labels)` and the loss the same labels, or leave them out there",
    )


def _without_consequences(found: Sequence[Finding], rows: Sequence[Record]) -> list[Finding]:
    """Without what only follows from a collapsed space, with other advice: no gradient, few active samples."""
    if not any(one.name == "collapse" and one.level == "act" for one in found):
        return list(found)
    last = rows[-1] if rows else {}
    stopped = bool(last.get("embedding_gradient")) and last.get("head_gradient") == 0
    # a gradient that stops between the embeddings and the weights is a fault of its own
    silent = {"few-active"} if stopped else {"few-active", "dead-gradient"}
    return [one for one in found if one.name not in silent]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
