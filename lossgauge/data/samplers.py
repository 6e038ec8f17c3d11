"""Which rows make which batch: a pure function of seed and epoch.

So every loss of a seed sees the same batches, and a run that was stopped goes on without any state to restore.
Within an epoch no row comes twice, but where small classes are repeated. `docs/samplers.md` has what each is worth, measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lossgauge.data.locations import first_few
from lossgauge.errors import InputError, MissingExtra, nearest

SMALL_CLASSES = ("leave-out", "repeat")
"""What becomes of a class with fewer rows than M-per-class batches take of one."""

TOLERATED_SHARE = 0.05
"""Anchors without a positive are worth a warning above this share: our choice."""


def random_batches(
    rows: Int[Tensor, " rows"], *, batch_size: int, seed: int, epoch: int
) -> list[Int[Tensor, " batch"]]:
    """`rows` shuffled and cut into full batches; a remainder is dropped, since active ratios depend on the size.

    Fewer rows than `batch_size` make one batch of all of them.
    """
    _check_size(batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    shuffled = rows[torch.from_numpy(order)]
    size = min(batch_size, len(rows))
    return list(shuffled[: len(rows) // size * size].split(size))


def m_per_class_batches(
    rows: Int[Tensor, " rows"],
    labels: Int[Tensor, " rows"],
    *,
    batch_size: int,
    samples_per_class: int,
    seed: int,
    epoch: int,
    small_classes: str = "leave-out",
) -> list[Int[Tensor, " batch"]]:
    """Batches of classes of `samples_per_class` rows each; `labels` are those of `rows`, one by one.

    Each batch takes the classes that have most rows left, drawn at random among equals; the order of the
    batches is shuffled. An epoch ends where too few classes have so many rows left, so a long tail makes it
    short. Classes weigh the same in a batch whatever their size: the mean loss over such batches is another
    number than over random ones.

    `batch_size` is rounded down to a multiple of `samples_per_class`. A class of fewer rows is left out of all
    batches (`leave-out`); with `repeat` it comes once an epoch, with rows of it drawn again to fill it up: the only
    rows that come twice. `m_per_class_notes` says in words what of this happens.
    """
    _check_size(batch_size)
    _check_aligned(rows, labels, "labels")
    m, count = samples_per_class, _classes_a_batch(batch_size, samples_per_class)
    if small_classes not in SMALL_CLASSES:
        raise InputError(
            f"unknown small_classes {small_classes!r}{nearest(small_classes, SMALL_CLASSES)}"
        )
    members = [some for some in _members(labels) if len(some) >= m or small_classes == "repeat"]
    if len(members) < count:
        smaller = f"batch_size {len(members) * m} or less, or " if members else ""
        raise InputError(
            f"batch_size {batch_size} with samples_per_class {m} needs {count} classes per batch, but there are "
            f"{len(members)}{'' if small_classes == 'repeat' else f' of at least {m} rows'}: use {smaller}"
            "another samples_per_class"
            + ("" if small_classes == "repeat" else ", or small_classes: repeat")
        )
    generator = np.random.default_rng([seed, epoch])
    shuffled = [_filled(generator.permutation(some), m, generator) for some in members]
    left = np.array([len(some) // m for some in shuffled])
    taken = np.zeros(len(members), dtype=np.int64)
    batches = []
    while True:
        # the fraction breaks ties at random
        chosen = np.argsort(-(left + generator.random(len(left))))[:count]
        if left[chosen[-1]] == 0:
            break
        batch = [shuffled[one][taken[one] : taken[one] + m] for one in chosen]
        batches.append(rows[torch.from_numpy(np.concatenate(batch))])
        left[chosen] -= 1
        taken[chosen] += m
    return [batches[place] for place in generator.permutation(len(batches))]


def m_per_class_notes(
    labels: Int[Tensor, " rows"],
    *,
    batch_size: int,
    samples_per_class: int,
    small_classes: str = "leave-out",
    class_names: Mapping[int, str],
) -> list[str]:
    """A line for a batch size that is rounded, and one for classes that are too small, with the first by name."""
    m, size = samples_per_class, _classes_a_batch(batch_size, samples_per_class) * samples_per_class
    notes = []
    if size != batch_size:
        notes.append(
            f"batch_size {batch_size} is not a multiple of samples_per_class {m}: batches are of {size}"
        )
    small = [some for some in _members(labels) if len(some) < m]
    if small:
        names = [class_names.get(n, str(n)) for n in (int(labels[some[0]]) for some in small)]
        what = {
            "leave-out": "are left out of the training batches (small_classes: repeat draws their rows again)",
            "repeat": "come once an epoch, their rows drawn again",
        }[small_classes]
        notes.append(
            f"{len(small):,} classes of fewer than {m} training rows ({sum(map(len, small)):,} of {len(labels):,} "
            f"rows) {what}: {first_few(names)}"
        )
    return notes


def _classes_a_batch(batch_size: int, samples_per_class: int) -> int:
    if samples_per_class < 2:
        raise InputError(
            "samples_per_class must be at least 2, because an anchor needs a positive, got "
            f"{samples_per_class}"
        )
    if batch_size < samples_per_class:
        raise InputError(
            f"batch_size must be at least samples_per_class, got {batch_size} and {samples_per_class}: use "
            f"{2 * samples_per_class} or more, for two classes"
        )
    return batch_size // samples_per_class


def _filled(members: np.ndarray, m: int, generator: np.random.Generator) -> np.ndarray:
    """`members`, and where they are fewer than m, some of them again."""
    lacking = m - len(members)
    return np.concatenate([members, generator.choice(members, lacking)]) if lacking > 0 else members


def stratified_batches(
    rows: Int[Tensor, " rows"],
    strata: Int[Tensor, " rows"],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    positions: Float[Tensor, " rows"] | None = None,
) -> list[Int[Tensor, " batch"]]:
    """Batches that mirror the strata: from each its share of what is left, rounded so that it is right on average.

    `strata` are those of `rows`, one by one: classes, or the cells of `kmeans_cells`. A stratum's count in a
    batch is its exact share rounded down or up, never further off. Full batches only, as `random_batches`.

    With `positions` (of `positions_along_strata`) the draw inside a stratum is antithetic: rows are paired
    with their mirror, first with last, second with last but one, and the two of a pair are drawn one after
    the other. They meet in one batch, or lie in consecutive ones where a batch takes an odd number. Stratified
    and antithetic sampling for contrastive losses: ARCO, https://arxiv.org/abs/2302.01735, which does so for
    the pixels of an image; rows of a data set are our reading.
    """
    _check_size(batch_size)
    _check_aligned(rows, strata, "strata")
    generator = np.random.default_rng([seed, epoch])
    members = [
        generator.permutation(some)
        if positions is None
        else _antithetic(some, positions.numpy()[some], generator)
        for some in _members(strata)
    ]
    size = min(batch_size, len(rows))
    taken = np.zeros(len(members), dtype=np.int64)
    left = np.array([len(some) for some in members])
    batches = []
    for _ in range(len(rows) // size):
        share = _rounded_shares(left, size, generator)
        batch = [members[one][taken[one] : taken[one] + share[one]] for one in share.nonzero()[0]]
        batches.append(rows[torch.from_numpy(generator.permutation(np.concatenate(batch)))])
        left -= share
        taken += share
    return batches


def positions_along_strata(
    features: Float[Tensor, "rows width"], strata: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Where each row lies along the first principal direction of its stratum; 0 is the stratum's mean.

    By 30 steps of the power method: two directions of like variance may come out mixed, which does no harm.
    """
    positions = torch.zeros(len(features), dtype=torch.float32)
    for some in _members(strata):
        rows = features[torch.from_numpy(some)].float()
        rows = rows - rows.mean(dim=0)
        direction = rows[int(rows.square().sum(dim=1).argmax())]
        for _ in range(30):
            direction = rows.T @ (rows @ direction)
            direction = direction / direction.norm().clamp(min=torch.finfo(torch.float32).tiny)
        positions[torch.from_numpy(some)] = rows @ direction
    return positions


def kmeans_cells(features: Float[Tensor, "rows width"], k: int, seed: int) -> Int[Tensor, " rows"]:
    """The k-means cell of each row, from 0 to k − 1; cells may be empty.

    By scikit-learn's MiniBatchKMeans; the same on one machine for one `seed`. Raises MissingExtra without it.
    """
    if not 2 <= k <= len(features):
        raise InputError(f"k must be between 2 and the number of rows, {len(features)}, got {k}")
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise MissingExtra(
            "k-means strata need scikit-learn: pip install 'lossgauge[demo]'"
        ) from None
    cells = MiniBatchKMeans(n_clusters=k, random_state=seed, n_init=1, batch_size=4096)
    return torch.from_numpy(cells.fit_predict(features.numpy()).astype(np.int64))


def share_without_positive(batches: Sequence[Int[Tensor, " _"]]) -> float:
    """Share of anchors that are alone of their class in their batch, over batches of labels: exact, in [0, 1].

    Before training: `share_without_positive([labels[rows] for rows in batches])` with the first epoch's.
    """
    alone = anchors = 0
    for labels in batches:
        _, sizes = labels.unique(return_counts=True)
        alone += int((sizes == 1).sum())
        anchors += len(labels)
    if not anchors:
        raise InputError(
            "the batches must have at least one row, got none: give at least one batch"
        )
    return alone / anchors


def warning_of_anchors_without_positive(share: float) -> str | None:
    """What it means in words with one thing to try, where the share is above TOLERATED_SHARE; None below."""
    if not 0 <= share <= 1:
        raise InputError(f"share must be in [0, 1], got {share}")
    if share <= TOLERATED_SHARE:
        return None
    return (
        f"{share:.0%} of the samples have no other of their class in their batch: pair losses cannot use "
        "them as anchors; they are only pushed away. Try: sampler: m_per_class with samples_per_class: 4"
    )


def _members(groups: Int[Tensor, " rows"]) -> list[np.ndarray]:
    """Places of the rows of each group, groups in ascending order."""
    numbers = groups.numpy()
    _, sizes = np.unique(numbers, return_counts=True)
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])


def _antithetic(
    members: np.ndarray, positions: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """`members` as pairs of mirror images, pairs and the order inside each at random; the odd one stands alone."""
    order = members[np.argsort(positions, kind="stable")]
    half = len(order) // 2
    pairs = np.stack([order[:half], order[::-1][:half]], axis=1)
    flipped = generator.permuted(pairs, axis=1)
    alone = [order[half : half + 1]] if len(order) % 2 else []
    blocks = [*flipped, *alone]
    return np.concatenate([blocks[place] for place in generator.permutation(len(blocks))])


def _rounded_shares(left: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """`size` places dealt out in proportion to `left`: each share rounded down or up, in whole numbers.

    Systematic sampling: shares laid end to end in a random order, cut at a random offset.
    """
    order = generator.permutation(len(left))
    total = int(left.sum())
    ends = (np.cumsum(left[order] * size) + generator.integers(total)) // total
    shares = np.empty_like(left)
    shares[order] = np.diff(ends, prepend=0)
    return shares


def _check_size(batch_size: int) -> None:
    if batch_size < 2:
        raise InputError(
            f"a batch needs at least two samples to compare, got batch_size={batch_size}"
        )


def _check_aligned(rows: Tensor, groups: Tensor, name: str) -> None:
    if len(rows) != len(groups):
        raise InputError(
            f"{name} must have one entry for each row, got {len(rows)} rows and {len(groups)} {name}; "
            f"use {name}[rows]"
        )
    if not len(rows):
        raise InputError("batches need at least one row, got no rows")
