"""How much is tried: the largest search whose estimated time fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from lossgauge.advice.halving import RATIO, epochs_of_rungs

SIZES = ((12, 27), (9, 27), (6, 27), (4, 27), (6, 9), (4, 9), (3, 9), (2, 9), (2, 3))
"""Candidates of each loss, and epochs of the last rung: the first that fits is taken."""

WANTED = (6, 27)
"""If not even this fits, a sample of the rows is used, of at least `LEAST_ROWS`. Our choice."""

LEAST_ROWS = 2_000

FINALISTS, SEEDS, MORE_SEEDS = 3, 3, (5, 8)
"""Losses that are run with seeds, the seeds that they get first, and those for which there may be time later."""

SAFETY = 1.25
"""Estimated times are multiplied by it: a study also starts processes and writes files."""

FINAL_EPOCH = 2.0
"""An epoch of a finalist takes so many times as long as one of a trial: the test side is measured too."""


class Cost(NamedTuple):
    """Seconds of a run of each loss on one core."""

    start: float
    """Of any run, whatever its epochs: set-up, files."""
    epoch: Mapping[str, float]
    """Loss → seconds of an epoch, with its measurement on the validation slice."""

    def run(self, loss: str, epochs: int) -> float:
        return self.start + epochs * self.epoch[loss]


class Schedule(NamedTuple):
    """The search that was chosen."""

    candidates: int
    """Of each loss."""
    epochs: tuple[int, ...]
    """Of each rung, ascending; the finalists have those of the last."""
    seconds: float
    """Estimated for the search and the seeds of the finalists."""


def rung_sizes(losses: int, count: int, rungs: int) -> list[int]:
    """Candidates of each rung, if none fails."""
    sizes = [losses * count]
    for number in range(1, rungs):
        thirds = -(-sizes[-1] // RATIO)
        sizes.append(max(thirds, losses) if number == 1 else thirds)
    return sizes


def search_seconds(cost: Cost, count: int, most: int, jobs: int) -> float:
    """Estimated seconds of a search with this many candidates of each loss, on `jobs` cores."""
    rungs = epochs_of_rungs(most)
    mean = {loss: cost.run(loss, 1) for loss in cost.epoch}
    total = 0.0
    for size, epochs in zip(rung_sizes(len(mean), count, len(rungs)), rungs, strict=True):
        runs = [cost.run(loss, epochs) for loss in mean]
        # which losses survive is not known
        total += size * sum(runs) / len(runs)
    return SAFETY * total / jobs


def finals_seconds(cost: Cost, most: int, jobs: int) -> float:
    """Estimated seconds of the finalists with their first seeds."""
    runs = [cost.start + FINAL_EPOCH * most * seconds for seconds in cost.epoch.values()]
    # one more for the paper's rule of thumb
    return SAFETY * (FINALISTS + 1) * SEEDS * sum(runs) / len(runs) / jobs


def planned_seconds(cost: Cost, count: int, most: int, jobs: int) -> float:
    """Of the search and of the finalists."""
    return search_seconds(cost, count, most, jobs) + finals_seconds(cost, most, jobs)


def choose(cost: Cost, seconds: float, jobs: int) -> Schedule:
    """The first of `SIZES` that fits into `seconds`, with its finalists; the smallest one if none does."""
    for count, most in SIZES:
        needed = planned_seconds(cost, count, most, jobs)
        if needed <= seconds:
            break
    return Schedule(count, epochs_of_rungs(most), needed)


def rows_that_fit(cost: Cost, rows: int, seconds: float, jobs: int) -> int | None:
    """The number of rows with which `WANTED` fits into `seconds`; None if all of them do.

    The time of an epoch is taken to be proportional to the rows: ranking grows faster, so this is on the safe side.
    """
    needed = planned_seconds(cost, *WANTED, jobs)
    fixed = planned_seconds(cost._replace(epoch=dict.fromkeys(cost.epoch, 0.0)), *WANTED, jobs)
    if needed <= seconds or rows <= LEAST_ROWS:
        return None
    share = max(0.0, seconds - fixed) / (needed - fixed)
    return max(LEAST_ROWS, math.floor(share * rows))


def rows_to_extract(rows: int, extraction_seconds: float, seconds: float) -> int | None:
    """The number of rows whose features take half of `seconds`; None if all of them take no longer."""
    if extraction_seconds <= seconds / 2:
        return None
    return max(8, math.floor(rows * (seconds / 2) / extraction_seconds))
