"""d-CDNV: the variance of a class along the line to another class, over their squared distance.

Luthra, Yang, Galanti 2025, arXiv 2506.04411. Unlike CDNV it does not count variance in directions that do not separate
classes, and it bounds the error of the nearest class mean (`nearest_class_mean.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.diagnostics.scale import power_of_two
from lossgauge.errors import InputError

BLOCK_PROJECTIONS = 2**21
"""Projections of rows onto lines between means that are held at a time: 16 MB."""

_SAME = 1e-30
"""The squared distance of two means, of rows with a largest entry of about 1, that is only rounding."""


@dataclass(frozen=True)
class DirectionalCDNV:
    """d_ij = mean over class i of ((x − μ_i)·u_ij)² / ‖μ_i − μ_j‖², with the unit vector u_ij from μ_i to μ_j."""

    mean: float
    """Over ordered pairs of classes, without i of one row; infinite if two class means are equal. 0 is best."""
    bound: float
    """(1/C) Σ_i Σ_{j≠i} 4d_ij/(1 + 4d_ij), at most 1: the class-averaged error of the nearest class mean of the same rows is never larger
    (Cantelli's inequality). Equal means count 1, and a class of one row 0."""
    worst: float
    """The largest d_ij …"""
    worst_pair: tuple[int, int]
    """… and the labels i and j that have it; the first one of several."""
    label: Int[Tensor, " classes"]
    """Ascending."""
    per_class: Float64[Tensor, " classes"]
    """Mean of d_ij over j; NaN for a class of one row."""
    per_class_bound: Float64[Tensor, " classes"]
    """Σ_j 4d_ij/(1 + 4d_ij), at most 1: a bound on the share of the rows of i that another mean is nearer to."""


def directional_cdnv(embeddings: ArrayLike, labels: ArrayLike) -> DirectionalCDNV:
    """d-CDNV of labelled embeddings, without normalising them. Computed in float64.

    Rotation, shift, scale and the order of rows do not change it. Time grows as rows × classes × width; memory as a block
    of projections and classes × width. Raises InputError for a batch that is empty or not finite, for one class, and if each class
    has only one row.
    """
    rows, classes, group = centered_classes(embeddings, labels)
    sizes = group.bincount()
    means = class_means(rows, group)
    per_class, bounds, worst = [], [], []
    members = rows[group.argsort(stable=True)].split(sizes.tolist())
    for number, own in enumerate(members):
        d = _to_others(own, means, number)
        bounds.append(float((4 * d / (1 + 4 * d)).nan_to_num(1).sum()))
        if sizes[number] == 1:
            # its variance is unknown; the row itself is still nearest to its own mean, unless another one is equal
            per_class.append(math.nan)
            worst.append((-math.inf, 0))
            continue
        per_class.append(float(d.sum()) / (len(classes) - 1))
        d[number] = -math.inf
        worst.append((float(d.max()), int(d.argmax())))
    first = max(range(len(worst)), key=lambda number: worst[number][0])
    of_class, of_bound = rows.new_tensor(per_class), rows.new_tensor(bounds)
    return DirectionalCDNV(
        mean=float(of_class.nanmean()),
        bound=min(1.0, float(of_bound.mean())),
        worst=worst[first][0],
        worst_pair=(int(classes[first]), int(classes[worst[first][1]])),
        label=classes,
        per_class=of_class,
        per_class_bound=of_bound.clamp(max=1),
    )


def centered_classes(
    embeddings: ArrayLike, labels: ArrayLike, *, single: bool = False
) -> tuple[Float64[Tensor, "rows width"], Int[Tensor, " classes"], Int[Tensor, " rows"]]:
    """Rows around their mean with a largest entry of about 1, the labels of the classes, and the class number of each row.

    Raises InputError for one class, and, unless `single` is set, if each class has only one row.
    """
    rows, numbers = as_batch(embeddings, labels)
    classes, group = numbers.unique(return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"classes are compared, so two are needed, got only label {int(classes[0])}"
        )
    if len(classes) == len(rows) and not single:
        raise InputError(
            f"each of the {len(rows)} classes has only one sample, so no class has a variance; "
            "give at least one class two samples"
        )
    exact = rows.detach().double()
    exact = exact / power_of_two(exact)
    # ratios do not depend on origin and scale, and squares of small differences far from the origin would cancel
    exact = exact - exact.mean(dim=0)
    return exact / power_of_two(exact), classes, group


def class_means(
    rows: Float64[Tensor, "rows width"], group: Int[Tensor, " rows"]
) -> Float64[Tensor, "classes width"]:
    sizes = group.bincount()
    sums: Tensor = rows.new_zeros(len(sizes), rows.shape[1])
    sums.scatter_add_(0, group[:, None].expand_as(rows), rows)
    return sums.div_(sizes[:, None])


def _to_others(
    own: Float64[Tensor, "own width"], means: Float64[Tensor, "classes width"], number: int
) -> Float64[Tensor, " classes"]:
    """d_ij of one class to each class; 0 to itself, infinite where the means are equal."""
    direction = means - means[number]
    squared = torch.linalg.vecdot(direction, direction)
    total = own.new_zeros(len(means))
    for block in (own - means[number]).split(max(1, BLOCK_PROJECTIONS // len(means))):
        total += (block @ direction.T).square_().sum(dim=0)
    d: Tensor = total / len(own) / squared / squared
    d[squared <= _SAME] = math.inf
    d[number] = 0
    return d
