"""Which class means are near each other, and the classes that a heat map of them shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

MOST_CLASSES = 40
"""Of a heat map: more rows cannot be told apart."""


def class_mean_cosines(
    rows: Float64[np.ndarray, "rows width"],
    labels: Int[np.ndarray, " rows"],
    classes: Sequence[int],
) -> Float64[np.ndarray, "classes classes"]:
    """Cosines of the means of some classes, in [−1, 1]; NaN where a mean is zero."""
    means = np.stack([rows[labels == label].mean(axis=0) for label in classes])
    norms = np.linalg.norm(means, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        directions = np.where(norms > 1e-12, 1 / norms, np.nan)[:, None] * means
    cosines: np.ndarray = np.clip(directions @ directions.T, -1, 1)
    return cosines


def most_confused(
    labels: Int[np.ndarray, " classes"],
    query_labels: Int[np.ndarray, " misses"],
    nearest_labels: Int[np.ndarray, " misses"],
    *,
    most: int = MOST_CLASSES,
) -> list[int]:
    """The `most` classes in the most misses, as the class of the query or of its nearest row; all if there are no more.

    Of equal ones the smaller label. A miss is a query whose nearest row has another class.
    """
    if len(labels) <= most:
        return sorted(labels.tolist())
    known = np.sort(labels)
    both = np.searchsorted(known, np.concatenate([query_labels, nearest_labels]))
    counts = np.bincount(both, minlength=len(known))
    order = np.lexsort([known, -counts])
    return sorted(known[order[:most]].tolist())


def side_by_side(cosines: Sequence[Float64[np.ndarray, "classes classes"]]) -> list[int]:
    """An order of the classes in which near ones are neighbours: the leaves of an average-linkage tree over 1 − cosine,
    the mean over the spaces."""
    count = len(cosines[0])
    if count < 3:
        return list(range(count))
    distances = np.mean([1 - np.nan_to_num(of, nan=0.0) for of in cosines], axis=0)
    np.fill_diagonal(distances, 0)
    condensed = squareform((distances + distances.T) / 2, checks=False)
    return [int(leaf) for leaf in leaves_list(linkage(condensed, "average", True))]
