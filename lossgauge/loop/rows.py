"""Updates as rows of numbers: the gradients divided by the factor of their loss, so that each is ∂loss/∂·.

`docs/probe.md` defines every column.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossgauge.diagnostics.greediness import (
    GRADIENT_SHARES,
    START_STEPS,
    start_gradient,
)
from lossgauge.loop.numbers import Numbers, read_all
from lossgauge.loop.records import Call, OfOptimizer, Part, Update
from lossgauge.loop.samples import (
    QUANTILES,
    class_counts,
    finite,
    first_other_class,
    gradient_columns,
    length_columns,
)
from lossgauge.types import Evaluation, Record

Read = Callable[[Tensor], Numbers]

_ROUNDING = 1e-3
"""Two norms nearer than this share are the same gradient: nothing was clipped between them."""


class Rows:
    """Collects updates, and turns many of them into rows together.

    g₀ is known after ten rows with gradients. Until then, ratios to it are computed from the rows so far.
    """

    def __init__(self, losses: Sequence[str]) -> None:
        self.losses = losses
        """The name of each loss; the list may grow."""
        self.unclear_scale = False
        """Whether a clipped gradient was left out because its scale is not known."""
        self.relabelled: list[tuple[int, int]] = []
        """Updates whose loss got other classes than `probe.embeddings`: the step, and the first row that shows it."""
        self._rows: list[Record] = []
        self._norms: list[Numbers | None] = []
        """Of the samples of each row, ascending."""
        self._updates: list[Update] = []
        self._start: float | None = None
        self._rated = 0

    def __len__(self) -> int:
        return len(self._rows) + len(self._updates)

    @property
    def waiting(self) -> int:
        """Updates that are not rows yet."""
        return len(self._updates)

    def add(self, update: Update) -> None:
        """Keep an update for later."""
        self._updates.append(update)

    def settle(self) -> list[Record]:
        """Turn the updates into rows, with one wait for the device; the new rows."""
        updates, self._updates = self._updates, []
        read = read_all(tensor for update in updates for tensor in _tensors(update))
        rows = [self._row(update, read) for update in updates]
        _add_batches(rows, updates, read)
        self.relabelled += _relabelled(updates, read)
        self._norms += _add_gradients(rows, updates, read)
        for place, row in enumerate(rows, start=len(self._rows)):
            if row["not_finite"] is not None and not row["skipped"]:
                self._norms[place] = None  # nor do they count for g₀
                row |= dict.fromkeys(column for column in row if _is_spoiled(column))
        self._rows += rows
        return rows

    def remove(self, row: Record) -> None:
        """Leave out a row of the last `settle`."""
        place = next(i for i in reversed(range(len(self._rows))) if self._rows[i] is row)
        del self._rows[place], self._norms[place]

    def rated(self) -> list[Record]:
        """All rows, with the ratios to g₀."""
        known = [norms for norms in self._norms if norms is not None]
        if self._start is None and known:
            start = start_gradient(torch.from_numpy(np.concatenate(known[:START_STEPS])))
            if len(known) >= START_STEPS:
                self._start = start
            else:
                self._rate(0, start)
                return self._rows
        if self._start is not None:
            self._rate(self._rated, self._start)
            for place in range(self._rated, len(self._norms)):
                self._norms[place] = None  # not needed any more
            self._rated = len(self._rows)
        return self._rows

    def _rate(self, first: int, start: float) -> None:
        for row, norms in zip(self._rows[first:], self._norms[first:], strict=True):
            if norms is not None and not math.isnan(start):
                for column, share in GRADIENT_SHARES.items():
                    below = norms.searchsorted(share * start, side="right")
                    row[column] = 1 - int(below) / len(norms)

    def _row(self, update: Update, read: Read) -> Record:
        """All but the columns over the samples, which are there already, in their place."""
        losses = _factors(((call.loss, call.factor) for call in update.calls), read)
        first = min(losses, default=None)
        row: Record = {
            "step": update.step,
            "epoch": update.epoch,
            "skipped": update.skipped or any(_is_skipped(of, read) for of in update.optimizers),
            "not_finite": None,
            "loss_value": None,
            "loss_factor": None if first is None else finite(losses[first].total),
            "micro_batch_count": len(update.calls) if first is None else losses[first].calls,
            **self._values(update.calls, losses, read),
            "batch_size": sum(part.size for part in update.parts or update.calls),
            **dict.fromkeys(_OF_BATCH),
            **_terms(update.calls, first, read),
        }
        row["not_finite"] = _not_finite(update, self.losses, read)
        row |= dict.fromkeys((*_GRADIENTS, *GRADIENT_SHARES))
        if not row["skipped"]:
            row |= self._at_parameters(update.optimizers, read)
        return row

    def _values(self, calls: Sequence[Call], losses: _Losses, read: Read) -> Record:
        """The value of the sum in units of the first loss; of several losses, the value and the weight of each."""
        values: dict[int, float] = {}
        for number in losses:
            of = [call for call in calls if call.loss == number and call.factor is not None]
            weights = [float(read(call.factor)[0]) for call in of if call.factor is not None]
            total = sum(weights)
            shares = [w / total for w in weights] if total else [1 / len(of)] * len(of)
            values[number] = sum(
                share * float(read(call.value)[0]) for share, call in zip(shares, of, strict=True)
            )
        if not values:
            alone = [float(read(call.value)[0]) for call in calls]
            return {"loss_value": finite(sum(alone) / len(alone))} if alone else {}
        first = min(values)
        unit = losses[first].total
        weight = {number: losses[number].total / unit if unit else math.nan for number in values}
        if len(values) == 1:
            row: Record = {"loss_value": finite(values[first])}
        else:
            row = {"loss_value": finite(sum(weight[n] * values[n] for n in values))}
        if len(self.losses) > 1:
            for number, name in enumerate(self.losses):
                row[f"loss_value_{name}"] = finite(values.get(number))
                row[f"loss_weight_{name}"] = finite(weight.get(number))
        return row

    def _at_parameters(self, optimizers: Sequence[OfOptimizer], read: Read) -> Record:
        norms: dict[str, list[float | None]] = defaultdict(list)
        for of in optimizers:
            factors = _factors(of.factors, read)
            if not factors:
                continue
            first = factors[min(factors)]
            unscaled = 1.0 if of.unscaled_by is None else float(read(of.unscaled_by)[0])
            for part, before, after in (
                ("head", of.head_norms, of.clipped_head_norms),
                ("loss", of.loss_norms, of.clipped_loss_norms),
            ):
                if before is None:
                    continue
                whole = _divided(_norm(read(before)), first.total)
                norms[f"{part}_gradient"].append(whole)
                # None: the gradients were cleared between `backward` and the update
                used = 0.0 if after is None else _norm(read(after)) * unscaled
                clipped = _divided(used, first.total)
                unknown = used > 0 and of.unscaled_by is None and first.may_be_scaled
                if unknown and _differ(whole, clipped):
                    self.unclear_scale = True
                    clipped = None
                norms[f"clipped_{part}_gradient"].append(clipped)
        return {column: _together(values) for column, values in norms.items()}


_OF_BATCH = (
    *("embedding_norm", "embedding_norm_min", "embedding_norm_max"),
    *("batch_class_count", "lone_ratio"),
)
_GRADIENTS = (
    "embedding_gradient",
    *QUANTILES,
    "tangent_gradient",
    "gradient_per_active",
    *("head_gradient", "loss_gradient", "clipped_head_gradient", "clipped_loss_gradient"),
)


_OF_TERMS = (
    *("term_count", "active_count", "term_active_ratio", "skipped_anchor_ratio"),
    *("mean_weight", "effective_share", "pull", "push"),
)


def _is_spoiled(column: str) -> bool:
    """Whether a number means nothing where a part of the update is not finite: a loss may leave NaN rows out, and say 0."""
    return column.startswith("loss_value") or column in (
        *_OF_TERMS,
        *_GRADIENTS,
        *GRADIENT_SHARES,
    )


class _OfLoss(NamedTuple):
    total: float
    """The sum of the factors of its calls."""
    calls: int

    @property
    def may_be_scaled(self) -> bool:
        """Whether a scaler may be in play: a mean over micro-batches and a weight make factors of at most 1."""
        return abs(self.total) > self.calls * (1 + _ROUNDING)


_Losses = dict[int, _OfLoss]


def _factors(factors: Iterator[tuple[int, Tensor | None]] | Sequence, read: Read) -> _Losses:
    """The number of each loss that got a gradient, with its factors."""
    of: dict[int, list[float]] = defaultdict(list)
    for loss, factor in factors:
        if factor is not None:
            of[loss].append(float(read(factor)[0]))
    return {loss: _OfLoss(math.fsum(values), len(values)) for loss, values in of.items()}


def _factor_of(part: Part, read: Read) -> float:
    """What the gradient was multiplied by: the factor of the first of the losses that use these embeddings, for each rank."""
    losses = _factors(((call.loss, call.factor) for call in part.calls), read)
    if not losses:
        return math.nan
    first = min(losses)
    return losses[first].total * max(c.gradient_multiple for c in part.calls if c.loss == first)


def _add_batches(rows: Sequence[Record], updates: Sequence[Update], read: Read) -> None:
    """Add what the batches are: norms of the embeddings, and classes."""
    lengths = [
        [_samples(part, read)[2] for part in update.parts if part.arrival is not None]
        for update in updates
    ]
    labels = [
        [read(part.labels) for part in update.parts if part.labels is not None]
        for update in updates
    ]
    counts = iter(class_counts([of for batches in labels for of in batches]))
    columns = length_columns([_joined(of) if of else None for of in lengths])
    for row, batches, of_lengths in zip(rows, labels, columns, strict=True):
        row |= of_lengths
        if batches:
            of_batches = [next(counts) for _ in batches]
            row["batch_class_count"] = sum(count for count, _ in of_batches) / len(batches)
            row_count = sum(map(len, batches))
            row["lone_ratio"] = (
                sum(lone for _, lone in of_batches) / row_count if row_count else None
            )


def _relabelled(updates: Sequence[Update], read: Read) -> list[tuple[int, int]]:
    """Updates in which the first loss got other classes than the probe: the step, and the first row that shows it."""
    found = []
    for update in updates:
        for part in update.parts:
            of = next((call.labels for call in part.calls if call.loss == 0), None)
            if part.labels is not None and of is not None:
                row = first_other_class(read(part.labels), read(of))
                if row is not None:
                    found.append((update.step, row))
                    break
    return found


def _add_gradients(
    rows: Sequence[Record], updates: Sequence[Update], read: Read
) -> list[Numbers | None]:
    """Add the columns of the gradient at the embeddings; its norms for each row, ascending."""
    arrived = [
        None if row["skipped"] else _at_embeddings(update.parts, read)
        for row, update in zip(rows, updates, strict=True)
    ]
    norms: list[Numbers | None] = []
    for row, (columns, ascending) in zip(rows, gradient_columns(arrived), strict=True):
        row |= columns
        gradient, active = row["embedding_gradient"], row["term_active_ratio"]
        if active and gradient is not None:
            row["gradient_per_active"] = gradient / active
        norms.append(None if gradient is None else ascending)
    return norms


def _at_embeddings(parts: Sequence[Part], read: Read) -> Numbers | None:
    """The norms of ∂loss/∂z of all samples, and of their tangent parts, 2 × samples; None where no gradient is known."""
    found = []
    for part in parts:
        if part.arrival is not None:
            factor = abs(_factor_of(part, read))
            if 0 < factor < math.inf:  # not for NaN
                found.append(_samples(part, read)[:2] / factor)
    return _joined(found) if found else None


def _samples(part: Part, read: Read) -> Numbers:
    """Three numbers for each sample of a part whose gradient has arrived: see `Arrival.numbers`."""
    assert part.arrival is not None
    return read(part.arrival.numbers).reshape(3, -1)


def _joined(arrays: Sequence[Numbers]) -> Numbers:
    """Arrays as one along the samples."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays, axis=-1) if arrays else np.empty(0)


def _norm(values: Numbers) -> float:
    return math.sqrt(values.dot(values))


def _terms(calls: Sequence[Call], first: int | None, read: Read) -> Record:
    """What the first loss says about its terms, over all micro-batches; None for what it does not say."""
    of = [call for call in calls if call.loss == first and call.evaluation is not None]
    evaluations = [call.evaluation for call in of if call.evaluation is not None]
    rows = [call.size for call in of]
    anchor_count = sum(
        size if e.anchor_count is None else e.anchor_count
        for e, size in zip(evaluations, rows, strict=True)
    )
    names = dict.fromkeys(name for e in evaluations for name in e.columns)
    terms = _sum([e.term_count for e in evaluations])
    active = _sum([e.active_count for e in evaluations])
    skipped = _sum([e.skipped_anchors for e in evaluations])
    weights = [read(e.anchor_weight) for e in evaluations if e.anchor_weight is not None]
    anchors = _joined(weights)
    total = float(anchors.sum())
    if math.isnan(total):  # of samples that are no anchors
        anchors = anchors[~np.isnan(anchors)]
        total = float(anchors.sum())
    return {
        "term_count": terms,
        "active_count": active,
        "term_active_ratio": active / terms if terms and active is not None else None,
        "skipped_anchor_ratio": skipped / anchor_count
        if skipped is not None and anchor_count
        else None,
        "mean_weight": total / len(anchors) if len(anchors) else None,
        "effective_share": _mean([e.effective_share for e in evaluations], rows),
        "pull": _mean([_number(e.pull, read) for e in evaluations], rows),
        "push": _mean([_number(e.push, read) for e in evaluations], rows),
        **{name: _mean([e.columns.get(name) for e in evaluations], rows) for name in names},
    }


def _not_finite(update: Update, losses: Sequence[str], read: Read) -> str | None:
    """What of an update is not finite, with the first row of it; None if all is finite."""
    for part in update.parts:
        if part.arrival is None or math.isfinite(read(part.arrival.numbers).sum()):
            continue
        norms, _, lengths = _samples(part, read)
        for what, numbers in (
            ("the embedding", lengths),
            ("the gradient at the embedding", norms),
        ):
            bad = np.flatnonzero(~np.isfinite(numbers))
            if len(bad):
                return f"{what} of row {bad[0]}"
    for call in update.calls:
        if not math.isfinite(read(call.value)[0]):
            return f"the value of the loss {losses[call.loss]!r}"
    for of in update.optimizers:
        for what, norm in (("model", of.head_norms), ("loss", of.loss_norms)):
            if norm is not None and not math.isfinite(read(norm).sum()):
                return f"the gradient at the parameters of the {what}"
    return None


def _is_skipped(of: OfOptimizer, read: Read) -> bool:
    return of.found_inf is not None and float(read(of.found_inf)[0]) > 0


def _tensors(update: Update) -> Iterator[Tensor]:
    for part in update.parts:
        if part.labels is not None:
            yield part.labels
        if part.arrival is not None:
            yield part.arrival.numbers
    for call in update.calls:
        yield call.value
        if call.factor is not None:
            yield call.factor
        if call.evaluation is not None:
            yield from _of_evaluation(call.evaluation)
    for part in update.parts:
        for call in part.calls:
            if call.factor is not None:
                yield call.factor
            if call.labels is not None:
                yield call.labels
    for of in update.optimizers:
        yield from (factor for _, factor in of.factors)
        yield from (value for value in of[1:] if value is not None)


def _of_evaluation(evaluation: Evaluation) -> Iterator[Tensor]:
    values = (evaluation.anchor_weight, evaluation.pull, evaluation.push)
    yield from (value for value in values if value is not None)


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """The mean over micro-batches by their rows, of the values that are known."""
    pairs = [
        (value, weight)
        for value, weight in zip(values, weights, strict=True)
        if value is not None and not math.isnan(value)
    ]
    total = sum(weight for _, weight in pairs)
    if len(pairs) == 1:
        return pairs[0][0]
    return sum(value * weight / total for value, weight in pairs) if total else None


def _number(value: Tensor | None, read: Read) -> float | None:
    return None if value is None else float(read(value)[0])


def _divided(norm: float, factor: float) -> float | None:
    return finite(norm / abs(factor)) if factor else None


def _differ(one: float | None, other: float | None) -> bool:
    return one is None or other is None or abs(one - other) > _ROUNDING * abs(one)


def _together(norms: Sequence[float | None]) -> float | None:
    """The norm over all parts; None if one of them is not known."""
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known and len(known) == len(norms) else None
