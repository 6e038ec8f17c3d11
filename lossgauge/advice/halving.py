"""Successive halving: all candidates for a few epochs, the best third of them for three times as many, and so on.

Jamieson and Talwalkar 2016: https://arxiv.org/abs/1502.07943. Every candidate of a rung has the same epochs, and every loss
enters with the same number of candidates. A loss that learns slowly is not dropped by the first rung: its best candidate stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

RATIO = 3
"""A rung has a third of the candidates of the one before, and three times its epochs. Our choice; 3 and 4 are usual."""


class Score(NamedTuple):
    """A candidate after a rung."""

    candidate: int
    loss: str
    value: float | None
    """On the validation slice, the higher the better; None if it failed."""


def epochs_of_rungs(most: int) -> tuple[int, ...]:
    """The epochs of each rung, ascending: 27 gives 3, 9, 27."""
    rungs = [most]
    while len(rungs) < 3 and rungs[0] // RATIO >= 1:
        rungs.insert(0, rungs[0] // RATIO)
    return tuple(rungs)


def best_first(scores: Sequence[Score]) -> list[Score]:
    """By value; those that failed are left out, and of equals the earlier one comes first."""
    known = [one for one in scores if one.value is not None]
    return sorted(known, key=lambda one: (-(one.value or 0.0), one.candidate))


def survivors(scores: Sequence[Score], *, after_first: bool) -> list[int]:
    """The candidates of the next rung, ascending: the best third, rounded up.

    After the first rung, the best candidate of every loss is among them, in place of the worst of the others.
    """
    ranked = best_first(scores)
    count = -(-len(scores) // RATIO)
    chosen: list[Score] = []
    if after_first:
        for one in ranked:
            if one.loss not in {other.loss for other in chosen}:
                chosen.append(one)
    others = [one for one in ranked if one not in chosen]
    chosen += others[: max(0, count - len(chosen))]
    return sorted(one.candidate for one in chosen)


def best_of_losses(scores: Sequence[Score], count: int) -> list[Score]:
    """The best candidate of each of the `count` best losses, best first."""
    best: dict[str, Score] = {}
    for one in best_first(scores):
        best.setdefault(one.loss, one)
    return list(best.values())[:count]
