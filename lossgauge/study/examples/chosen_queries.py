"""Which test queries a page shows: the hardest, those on which two losses disagree, and some at even distances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from lossgauge.results.examples import DISAGREEMENT, HARDEST, ORDINARY

HARDEST_COUNT, DISAGREEMENT_COUNT, ORDINARY_COUNT = 8, 8, 4
"""Our choice: about 300 pictures with seven losses."""


class Answers(NamedTuple):
    """How the losses answered the queries of a dataset."""

    query: Int[np.ndarray, " queries"]
    """Rows of the dataset, ascending."""
    ap_at_r: Float64[np.ndarray, "losses queries"]
    """The mean over the seeds of a loss."""
    hit_share: Float64[np.ndarray, "losses queries"]
    """The share of its seeds in which the nearest row has the class of the query."""
    hit: Bool[np.ndarray, "losses queries"]
    """The same in the one run of each loss whose neighbours are shown."""


class ChosenQuery(NamedTuple):
    kind: str
    query: int
    right: int | None = None
    """The loss that is right at rank 1, in a disagreement."""
    wrong: int | None = None
    """The loss that is wrong."""


def chosen_queries(answers: Answers) -> list[ChosenQuery]:
    """All that are shown; a query may be shown for more than one reason."""
    return [
        *(ChosenQuery(HARDEST, int(answers.query[at])) for at in hardest(answers)),
        *(
            ChosenQuery(DISAGREEMENT, int(answers.query[at]), right, wrong)
            for at, right, wrong in disagreements(answers)
        ),
        *(
            ChosenQuery(ORDINARY, int(answers.query[at]))
            for at in evenly_spaced(len(answers.query))
        ),
    ]


def hardest(answers: Answers, *, most: int = HARDEST_COUNT) -> list[int]:
    """Places of the queries with the lowest AP@R, the mean over losses and seeds; the hardest first.

    Of equal ones the one that fewer runs answer right at rank 1 is harder, then the earlier row. A query that every run
    answers perfectly is not hard.
    """
    # rounded: means that differ only by the rounding of their sums are equal
    ap, hits = (of.mean(axis=0).round(12) for of in (answers.ap_at_r, answers.hit_share))
    order = np.lexsort([answers.query, hits, ap])
    return [int(at) for at in order[:most] if ap[at] < 1]


def disagreements(
    answers: Answers, *, most: int = DISAGREEMENT_COUNT
) -> list[tuple[int, int, int]]:
    """Place of a query, the loss that is right, and the loss that is wrong; the clearest disagreement first.

    Of the losses whose shown run is right, the one with the highest share of right seeds, then of AP@R, is taken; of those
    whose shown run is wrong, the one with the lowest. A disagreement is clearer if these shares, then these AP@R, differ more.
    """
    losses = range(len(answers.hit))
    found: list[tuple[float, float, int, int, int]] = []
    for at in np.flatnonzero(answers.hit.any(axis=0) & ~answers.hit.all(axis=0)).tolist():
        share, ap = answers.hit_share[:, at], answers.ap_at_r[:, at]
        right = min(
            (loss for loss in losses if answers.hit[loss, at]), key=lambda i: (-share[i], -ap[i])
        )
        wrong = min(
            (loss for loss in losses if not answers.hit[loss, at]), key=lambda i: (share[i], ap[i])
        )
        found.append((share[wrong] - share[right], ap[wrong] - ap[right], at, right, wrong))
    return [(at, right, wrong) for _, _, at, right, wrong in sorted(found)[:most]]


def evenly_spaced(count: int, *, most: int = ORDINARY_COUNT) -> list[int]:
    """Places at even distances: the middles of `most` equal parts of all queries."""
    parts = min(most, count)
    return [count * (2 * part + 1) // (2 * parts) for part in range(parts)]
