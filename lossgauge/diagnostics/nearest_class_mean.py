"""Nearest class mean: each row gets the class whose mean is nearest, by Euclidean distance to means that are not normalised.

Luthra, Yang, Galanti 2025, arXiv 2506.04411, for the m-shot error and for d-CDNV, which bounds the error of the first form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from lossgauge.batch import ArrayLike
from lossgauge.diagnostics.directional_cdnv import (
    centered_classes,
    class_means,
    directional_cdnv,
)
from lossgauge.errors import InputError

SHOTS = (1, 5, 10, 20, 100)
DRAWS = 100
BLOCK_DISTANCES = 2**21
"""Distances from rows to means that are held at a time: 16 MB."""


class ShotAccuracy(NamedTuple):
    """Class-averaged accuracy with the means of m random rows of each class; all other rows are queries."""

    accuracy: float
    """Mean over the draws, in [0, 1]; by chance about 1/C."""
    deviation: float
    """Standard deviation over the draws; 0 for one draw."""


@dataclass(frozen=True)
class NearestClassMean:
    """Accuracies are averages over classes, in [0, 1]."""

    accuracy: float
    """With the means of all rows, of which each row is a part: for few rows per class it is high even without classes."""
    row_accuracy: float
    """The same as a share of all rows."""
    error_bound: float
    """`DirectionalCDNV.bound`: 1 − `accuracy` is never larger. It says nothing of the m-shot accuracies."""
    shots: dict[int, ShotAccuracy]
    """m → accuracy."""
    per_class: Float64[Tensor, " classes"]
    """Accuracy of each class, in ascending order of label."""
    label: Int[Tensor, " classes"]

    @property
    def error(self) -> float:
        return 1 - self.accuracy


def nearest_class_mean(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    shots: Sequence[int] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> NearestClassMean:
    """Accuracy with the means of all rows beside its proven bound, and the m-shot curve over `draws` seeded draws. In float64.

    Without `shots`, m is each of 1, 5, 10, 20, 100 that leaves every class a query; `shots=()` measures none. Of two means at the
    same distance, the smaller label wins. Time grows as rows × classes × width, once for the bound and once for each draw of each m; memory
    as the rows in float64. Raises InputError for a batch that is empty or not finite, one class, an m
    that leaves a class without a query, and, for the bound, if each class has only one row.
    """
    rows, classes, group = centered_classes(embeddings, labels)
    sizes = group.bincount()
    chosen = _checked_shots(shots, sizes, classes)
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise InputError(f"draws must be a whole number of at least 1, got {draws!r}")
    right = nearest_mean(rows, class_means(rows, group)) == group
    per_class = _class_accuracies(right, group)
    return NearestClassMean(
        accuracy=float(per_class.mean()),
        row_accuracy=float(right.double().mean()),
        error_bound=directional_cdnv(embeddings, labels).bound,
        shots={m: _few_shot(rows, group, m, draws=draws, seed=seed) for m in chosen},
        per_class=per_class,
        label=classes,
    )


def nearest_mean(
    rows: Float64[Tensor, "rows width"], means: Float64[Tensor, "classes width"]
) -> Int64[Tensor, " rows"]:
    """The number of the nearest mean of each row; the first one of several. Rows and means near the origin keep their digits."""
    # ‖x‖² is the same for all means
    half = torch.linalg.vecdot(means, means) / 2
    blocks = rows.split(max(1, BLOCK_DISTANCES // len(means)))
    return torch.cat([(half - block @ means.T).argmin(dim=1) for block in blocks])


def _few_shot(
    rows: Float64[Tensor, "rows width"],
    group: Int[Tensor, " rows"],
    m: int,
    *,
    draws: int,
    seed: int,
) -> ShotAccuracy:
    accuracies = []
    for chosen in _drawn(group, m, draws=draws, seed=seed):
        means = class_means(rows[chosen], group[chosen])
        others = torch.ones_like(group, dtype=torch.bool)
        others[chosen] = False
        right = nearest_mean(rows[others], means) == group[others]
        accuracies.append(_class_accuracies(right, group[others]).mean())
    every = torch.stack(accuracies)
    return ShotAccuracy(float(every.mean()), float(every.std()) if draws > 1 else 0.0)


def _drawn(
    group: Int[Tensor, " rows"], m: int, *, draws: int, seed: int
) -> Iterator[Int64[Tensor, " chosen"]]:
    """For each draw, `m` random rows of each class."""
    generator = torch.Generator().manual_seed(seed)
    sizes = group.bincount()
    starts = sizes.cumsum(0) - sizes
    places = (starts[:, None] + torch.arange(m, device=group.device)).flatten()
    for _ in range(draws):
        order = torch.rand(len(group), generator=generator, dtype=torch.float64).to(group.device)
        by_chance = order.argsort()
        yield by_chance[group[by_chance].argsort(stable=True)][places]


def _class_accuracies(right: Tensor, group: Int[Tensor, " rows"]) -> Float64[Tensor, " classes"]:
    return group.bincount(weights=right.double()) / group.bincount()


def _checked_shots(
    shots: Sequence[int] | None, sizes: Int[Tensor, " classes"], classes: Int[Tensor, " classes"]
) -> list[int]:
    smallest = int(sizes.argmin())
    if shots is None:
        return [m for m in SHOTS if m < sizes[smallest]]
    for m in shots:
        if isinstance(m, bool) or not isinstance(m, int) or m < 1:
            raise InputError(f"shots must be whole numbers of at least 1, got {m!r}")
        if m >= sizes[smallest]:
            raise InputError(
                f"{m} shots need {m + 1} rows of each class, {m} for the mean and one as a query, but class "
                f"{int(classes[smallest])} has {int(sizes[smallest])}; leave it out or ask for fewer shots"
            )
    return sorted(set(shots))
