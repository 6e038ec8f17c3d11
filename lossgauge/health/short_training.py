"""Whether a run was trained long enough to say that training does not help: its steps, and its curve at the end.

A curve that still rises says nothing about where it ends. The thresholds are our choice, and each stands here only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy import stats

from lossgauge.health.finding import Finding
from lossgauge.health.records import finding
from lossgauge.stats.number_format import counted, rounded

LEAST_STEPS = 20
"""Fewer updates than this tell nothing: a step of Adam moves a weight by at most the learning rate."""
ENOUGH_STEPS = 50
"""What is advised instead."""
AHEAD = 2
"""A curve counts as rising if it would beat the reference after so many times the epochs that were trained, at its last rate."""
SURE = 3.0
"""The last rate must be so many of its standard errors above 0, where there are four measurements or more."""
EVENLY = 0.4
"""A loss whose second half of the epochs has this share of its total fall is still falling; 0.5 is a straight line."""
HARDLY = 0.01
"""A loss that fell by less than this share of its first value has hardly moved."""
FAR_BELOW = 10
"""After a fall by so many margins, a lower learning rate is advised instead of more epochs."""


class Trained(NamedTuple):
    """What is known of the training of one loss."""

    subject: str
    title: str
    """Of the measure, such as `nDCG@10`, which is in [0, 1]."""
    curve: Mapping[int, float]
    """Epoch → the measure after it, mean over seeds; 0 is before training."""
    curves: Sequence[Mapping[int, float]]
    """The same of each seed."""
    reference: float
    """The level without training that must be beaten."""
    margin: float
    """The smallest difference that matters."""
    epochs: int
    steps: int | None
    """Updates of the run that has the fewest; None if not known."""
    losses: Sequence[float]
    """The training loss of each epoch, mean over seeds; empty if it says nothing about progress."""
    learning_rate: float | None


def too_little_training(of: Trained) -> Finding | None:
    """The finding with the one setting to change; None if the training was long enough, or is not known."""
    if not of.epochs or len(of.curve) < 2:
        return None
    if of.reference > 1 - of.margin:
        return None  # no training can gain what matters
    for check in (_few_steps, _rising, _not_moved):
        if (found := check(of)) is not None:
            return found
    return None


def _few_steps(of: Trained) -> Finding | None:
    if of.steps is None or of.steps >= LEAST_STEPS:
        return None
    fallen = of.curve[min(of.curve)] - of.curve[max(of.curve)]
    if fallen > FAR_BELOW * of.margin:
        advice = _lower_rate(of)
    else:
        advice = f"epochs: {math.ceil(of.epochs * ENOUGH_STEPS / max(of.steps, 1))}"
    rate = last_rate(of.curve, sure=False)
    slope = "" if rate is None else f" ({of.title} changes by {_points(rate)} an epoch at the end)"
    return _finding(
        of,
        f"{counted(of.steps, 'step')} of the optimiser in {counted(of.epochs, 'epoch')}{slope}",
        f"fewer than {LEAST_STEPS} steps tell nothing",
        advice,
    )


def _rising(of: Trained) -> Finding | None:
    rate = last_rate(of.curve)
    if rate is None or rate <= 0:
        return None
    rising = [one for curve in of.curves if (one := last_rate(curve, sure=False)) and one > 0]
    if 2 * len(rising) <= len(of.curves):
        return None
    gain = of.curve[max(of.curve)] - of.reference
    ahead = AHEAD * of.epochs * rate
    if gain + ahead < of.margin or ahead < 2 * gain:
        return None  # it would not beat the reference, or does so already: more seeds or queries tell more
    return _finding(
        of,
        f"{of.title} still rises by {_points(rate)} an epoch at the last of {counted(of.epochs, 'epoch')}{_in_steps(of)}",
        "a curve that has ended is flat",
        f"epochs: {(1 + AHEAD) * of.epochs}",
    )


def _not_moved(of: Trained) -> Finding | None:
    """Retrieval is where it was, and the loss is on its way: nothing has happened yet."""
    start = of.curve[min(of.curve)]
    if len(of.losses) < 4 or any(abs(v - start) >= of.margin for v in of.curve.values()):
        return None
    first, last = of.losses[0], of.losses[-1]
    middle = of.losses[len(of.losses) // 2]
    fall = first - last
    if fall <= 0:
        return None
    evidence = (
        f"{of.title} has moved by less than {_points(of.margin)} in {counted(of.epochs, 'epoch')}"
    )
    if fall < HARDLY * abs(first):
        return _finding(
            of,
            f"{evidence}, and the loss by {fall / abs(first):.2%}",
            f"below {HARDLY:.0%} the loss has hardly moved",
            _higher_rate(of),
        )
    even = all(after < before for before, after in pairwise(of.losses))
    if not even or (middle - last) < EVENLY * fall:
        return None
    return _finding(
        of,
        f"{evidence}, and the loss still falls evenly ({first:.3g} to {last:.3g})",
        f"{(middle - last) / fall:.0%} of the fall is in the second half of the epochs",
        f"epochs: {(1 + AHEAD) * of.epochs}",
    )


def last_rate(curve: Mapping[int, float], *, sure: bool = True) -> float | None:
    """Change of a curve for each epoch over the second half of its epochs, as least squares.

    With `sure`, None if it is not clear from 0 beside the scatter. None too with fewer than two measurements.
    """
    last = max(curve, default=0)
    half = [epoch for epoch in sorted(curve) if epoch >= last / 2]
    if len(half) < 2:
        half = sorted(curve)[-2:]
    if len(half) < 2:
        return None
    values = [curve[epoch] for epoch in half]
    if len(half) < 4:
        return (values[-1] - values[0]) / (half[-1] - half[0])
    fit = stats.linregress(half, values)
    if sure and abs(fit.slope) < SURE * fit.stderr:
        return None
    return float(fit.slope)


def _finding(of: Trained, evidence: str, reference: str, advice: str) -> Finding:
    return finding(
        "too-little-training",
        "watch",
        of.subject,
        evidence,
        reference,
        why="So it cannot be told yet whether training helps.",
        advice=f"`{advice}`",
    )


def _points(value: float) -> str:
    digits = 1 if abs(value) >= 0.001 else 2
    return f"{rounded(100 * value, digits)} points"


def _in_steps(of: Trained) -> str:
    return "" if of.steps is None else f" ({counted(of.steps, 'step')})"


def _lower_rate(of: Trained) -> str:
    return (
        f"learning_rate: {of.learning_rate / 10:g}"
        if of.learning_rate
        else "a tenth of learning_rate"
    )


def _higher_rate(of: Trained) -> str:
    return (
        f"learning_rate: {10 * of.learning_rate:g}"
        if of.learning_rate
        else "ten times learning_rate"
    )
