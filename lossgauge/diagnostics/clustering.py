"""Clustering: do k-means clusters of the rows find the classes without their labels?

Zhang et al. 2021 (SCCL), arXiv 2103.12953, for the three numbers: accuracy under the best one-to-one match of clusters and classes (Hungarian
algorithm), normalised mutual information and the adjusted Rand index.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.diagnostics.scale import power_of_two
from lossgauge.errors import InputError, MissingExtra

INITS = 10
"""Starts of k-means; the one with the smallest sum of squares is taken."""


class Clustering(NamedTuple):
    """Agreement of clusters with classes."""

    accuracy: float
    """Share of rows whose cluster is matched with their class, in (0, 1]; of as many clusters as classes, about 1/C by chance."""
    nmi: float
    """Mutual information over the mean of the two entropies, in [0, 1]. By chance above 0, the more so the fewer rows a cluster has."""
    ari: float
    """Adjusted Rand index, in [−0.5, 1]: 0 by chance, 1 if equal."""
    cluster_count: int
    """Clusters that have rows."""
    assigned: Int64[Tensor, " rows"]
    """The number of each row's cluster."""


def clustering(
    embeddings: ArrayLike, labels: ArrayLike, *, k: int | None = None, seed: int = 0
) -> Clustering:
    """k-means of the rows, as many clusters as classes unless `k` is given, compared with the labels.

    The best of 10 seeded starts. Needs scikit-learn. Time grows as rows × k × width × iterations × 10: for 10,000 rows of width 128 in 100 classes,
    many seconds. Raises InputError for a batch that is empty or not finite, one class, and k above the number of rows; MissingExtra
    without scikit-learn.
    """
    rows, numbers = as_batch(embeddings, labels)
    classes = len(numbers.unique())
    _check_classes(classes, int(numbers[0]))
    count = classes if k is None else k
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(rows):
        raise InputError(
            f"k must be a whole number from 1 to the number of rows, {len(rows)}, got {count!r}"
        )
    exact = rows.detach().double().cpu()
    exact = exact / power_of_two(exact)
    exact = exact - exact.mean(dim=0)
    # scikit-learn warns of fewer distinct rows than clusters
    distinct = len(exact.unique(dim=0)) if count > 1 else 1
    means = _sklearn("cluster").KMeans(min(count, distinct), n_init=INITS, random_state=seed)
    found = torch.from_numpy(means.fit_predict(exact.numpy()).astype(np.int64))
    return cluster_agreement(found, numbers)


def cluster_agreement(assigned: ArrayLike, labels: ArrayLike) -> Clustering:
    """The same numbers for clusters of any origin: one whole number for each row. Needs scikit-learn. Time grows as rows, and clusters³ for the match."""
    clusters, numbers = (
        torch.as_tensor(np.asarray(part.cpu() if isinstance(part, Tensor) else part))
        for part in (assigned, labels)
    )
    if clusters.shape != numbers.shape or clusters.ndim != 1 or not len(clusters):
        raise InputError(
            f"clusters and labels must be one number for each row, got shapes {tuple(clusters.shape)} and {tuple(numbers.shape)}"
        )
    if clusters.is_floating_point() or numbers.is_floating_point():
        raise InputError(
            f"clusters and labels must be integers, got {clusters.dtype} and {numbers.dtype}"
        )
    of_cluster, cluster = clusters.unique(return_inverse=True)
    of_class, group = numbers.unique(return_inverse=True)
    _check_classes(len(of_class), int(numbers[0]))
    table = torch.zeros(len(of_cluster), len(of_class), dtype=torch.int64)
    table.view(-1).index_add_(0, cluster * len(of_class) + group, torch.ones_like(group))
    matched = linear_sum_assignment(table.numpy(), maximize=True)
    metrics = _sklearn("metrics")
    pair = group.numpy(), cluster.numpy()
    return Clustering(
        accuracy=float(table.numpy()[matched].sum()) / len(group),
        nmi=float(metrics.normalized_mutual_info_score(*pair)),
        ari=float(metrics.adjusted_rand_score(*pair)),
        cluster_count=len(of_cluster),
        assigned=clusters.long(),
    )


def _check_classes(count: int, label: int) -> None:
    if count < 2:
        raise InputError(f"clusters are compared with at least two classes, got only label {label}")


def _sklearn(part: str) -> ModuleType:
    try:
        from importlib import import_module

        return import_module(f"sklearn.{part}")
    except ImportError:
        raise MissingExtra("clustering needs scikit-learn: pip install 'lossgauge[demo]'") from None
