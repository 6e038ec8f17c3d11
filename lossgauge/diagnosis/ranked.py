"""R@k and MAP@R with their intervals, by cosine and by dot product."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lossgauge.diagnosis.records import Ranked
from lossgauge.diagnosis.sampling import draw
from lossgauge.diagnosis.search import Search
from lossgauge.diagnosis.source import Source
from lossgauge.ranking.metrics import retrieval
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.stats.intervals import Interval, interval

RECALL_AT = (1, 2, 4, 8)
COMPARED_ROWS = 5000
"""Of a set with more rows, dot product and cosine are compared on so many."""


def ranked_all(
    rows: Float[Tensor, "rows width"], groups: np.ndarray, similarity: str
) -> tuple[Ranked, dict[str, Float64[np.ndarray, " rows"]]]:
    """Every row against all others; and, for each row, the fields `right`, `wrong` and `ap_at_r` of its search.

    `hit` is whether the nearest row is of its class. All are NaN for a row without another of its class.
    """
    found = retrieval(rows, torch.from_numpy(groups), recall_at=RECALL_AT, similarity=similarity)
    of = found.per_query
    assert of is not None
    given = {
        "right": of.nearest_right_similarity,
        "wrong": of.nearest_wrong_similarity,
        "ap_at_r": of.ap_at_r,
        "hit": of.first_right_rank <= 1,
    }
    of_rows = {name: np.full(len(rows), np.nan) for name in given}
    for name, values in given.items():
        of_rows[name][of.query] = values
    ranked = Ranked(
        similarity,
        {k: mean(of.first_right_rank <= k) for k in RECALL_AT},
        mean(of.ap_at_r),
        mean(of.r_precision),
        found.query_count,
        found.skipped_count,
        len(rows),
    )
    return ranked, of_rows


def ranked_of(search: Search, groups: np.ndarray) -> Ranked:
    """A sample of queries against all rows; `groups` are the classes of all rows."""
    with_right = ~np.isnan(search.right)
    hit = groups[search.neighbors] == search.groups[:, None]
    return Ranked(
        "cosine",
        {k: mean(hit[with_right, :k].any(axis=1)) for k in RECALL_AT},
        None,
        None,
        int(with_right.sum()),
        int((~with_right).sum()),
        search.searched,
    )


def ranked_by_dot(
    source: Source, groups: np.ndarray, *, seed: int
) -> tuple[list[Ranked], Interval | None]:
    """Cosine and dot product on the same sample of rows, and the difference of their R@1.

    Empty, and None, if it has no two rows of a class, or one class.
    """
    known = np.flatnonzero(groups >= 0)
    rows = known[draw(len(known), COMPARED_ROWS, seed)]
    some = groups[rows]
    if not 1 < len(np.unique(some)) < len(rows):
        return [], None
    of_rows = source.rows(rows)
    directions = norms_and_directions(of_rows)[1]
    (cosine, by_cosine), (dot, by_dot) = (
        ranked_all(directions, some, "cosine"),
        ranked_all(of_rows, some, "dot"),
    )
    return [cosine, dot], recall_difference(by_cosine, by_dot)


def recall_difference(
    cosine: dict[str, Float64[np.ndarray, " rows"]], dot: dict[str, Float64[np.ndarray, " rows"]]
) -> Interval:
    """R@1 by cosine minus R@1 by dot product, paired by query. A row of zeros has no cosine, and is no query of either."""
    change = cosine["hit"] - dot["hit"]
    return mean(change[~np.isnan(change)])


def over_queries(values: np.ndarray) -> Interval:
    """The same where queries have no classes, or these are drawn again too."""
    return mean(values)._replace(over="new queries")


def mean(values: np.ndarray) -> Interval:
    """The mean over queries, with its interval over new ones."""
    found = interval(values.astype(float).tolist())
    if found is None:
        return Interval(float("nan"), None, 0, missing="no query")
    missing = "" if found.half_width is not None else "all queries give the same"
    return found._replace(
        over="new queries of the same classes", queries=len(values), missing=missing
    )
