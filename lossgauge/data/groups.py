"""Groups of rows that must stay on one side of a split: images of one product, of one person, of one camera.

Near copies of a training row make a test row easy: with groups, none of them is on the other side.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lossgauge.errors import DataError


def held_rows(
    labels: Int[np.ndarray, " rows"],
    groups: np.ndarray,
    *,
    wanted: Float[np.ndarray, " classes"],
    generator: np.random.Generator,
) -> Bool[np.ndarray, " rows"]:
    """Which rows are held out: whole groups, chosen at random, so that each class has about `wanted` rows among them.

    `wanted` has one number for each class, by ascending label. Larger groups are placed first; a group is held if
    that lowers the sum of squares of what each class still lacks, as a share of the class. If each row is its own
    group, exactly the wanted rows are held. Time grows as rows · log rows.
    """
    _, class_of, class_size = np.unique(labels, return_inverse=True, return_counts=True)
    _, group_of, group_size = np.unique(groups, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(group_size)[:-1])
    order = generator.permutation(len(members))
    order = order[np.argsort(-group_size[order], kind="stable")]
    lacking = wanted.astype(np.float64)
    held = np.zeros(len(labels), dtype=bool)
    for group in order:
        classes, counts = np.unique(class_of[members[group]], return_counts=True)
        change = counts * (counts - 2 * lacking[classes]) / class_size[classes] ** 2
        if change.sum() < 0:
            held[members[group]] = True
            lacking[classes] -= counts
    return held


def check_groups(
    groups: np.ndarray,
    one: Int[np.ndarray, " one"],
    other: Int[np.ndarray, " other"],
    *,
    source: str,
    fix: str,
) -> None:
    """DataError if a group has rows on both sides of a split, which `source` names."""
    shared = np.intersect1d(groups[one], groups[other])
    if len(shared):
        name = f"the group {str(shared[0])!r}" if shared.dtype.kind == "U" else "one group"
        counts = [int((groups[side] == shared[0]).sum()) for side in (one, other)]
        raise DataError(
            f"a group must be on one side of a split, but {source} has {counts[0]} rows of {name} on one side "
            f"and {counts[1]} on the other ({len(shared)} groups are on both): {fix}"
        )


def group_numbers(groups: np.ndarray | None) -> Int[Tensor, " rows"] | None:
    """The group of each row as a number from 0."""
    if groups is None:
        return None
    return torch.from_numpy(np.unique(groups, return_inverse=True)[1].reshape(-1))
