"""What a probe's rows, its losses and its last epoch say, by the rules of `lossgauge.health`."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from importlib import import_module
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lossgauge.distributed.gathered_loss import Gathered
from lossgauge.health.finding import Finding, worst_first
from lossgauge.health.records import finding
from lossgauge.loop.hooks import unwrapped_loss
from lossgauge.losses.base import Loss
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
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    batch: tuple[Tensor, Tensor] | None,
    space: Space | None,
    left_out: Sequence[Record] = (),
    never_stepped: Sequence[int] = (),
    relabelled: Sequence[tuple[int, int]] = (),
) -> list[Finding]:
    """All findings, the worst first. `batch` is what the first loss was called with last, if it takes embeddings and labels.

    `left_out` are rows that are not in `rows` because they are not finite, `never_stepped` the places of optimisers without an
    update, and `relabelled` the updates whose loss got other classes than the probe: the step, and the first such row.
    """
    training, of_space = (import_module(f"lossgauge.health.{n}") for n in ("training", "space"))
    first: Any = unwrapped_loss(modules[0]) if modules else None
    if isinstance(first, Gathered):
        first = first.loss  # alone: the other ranks may not ask for findings
    ours = first if isinstance(first, Loss) else None
    made = [row for row in rows if not row["skipped"]]
    bad = sorted((row for row in (*made, *left_out) if row["not_finite"]), key=_step)
    found: list[Finding] = training.training_findings(
        _with_nan(made, left_out),
        loss=None if ours is None else type(ours).__name__,
        settings=None if ours is None else {key: getattr(ours, key) for key in ours.settings},
        batch_size=_mean([row["batch_size"] / (row["micro_batch_count"] or 1) for row in made]),
        class_count=_rounded(_mean([row["batch_class_count"] for row in made])),
    )
    found = [_where(one, bad, left_out) if one.name == "not-finite" else one for one in found]
    found += [_never_stepped(place, optimizers[place]) for place in never_stepped]
    if relabelled:
        found.append(_relabelled(relabelled))
    for module in modules:
        found += training.optimizer_findings(optimizers, module)
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
