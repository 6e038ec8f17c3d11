"""Samplers: pure functions of seed and epoch that return the rows of each batch.

So every loss of a seed sees the same batches, and a stopped run continues without a sampler state to restore.
Within an epoch no row appears twice, unless small classes are repeated or single terms are drawn. `docs/samplers.md` compares the samplers.
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
"""The options for a class with fewer rows than an M-per-class batch needs."""

DRAWN_TERMS = ("pair", "triplet")
"""The terms of `drawn_batches`."""

TOLERATED_SHARE = 0.05
"""A larger share of anchors without a positive gives a warning: our choice."""


def random_batches(
    rows: Int[Tensor, " rows"], *, batch_size: int, seed: int, epoch: int
) -> list[Int[Tensor, " batch"]]:
    """`rows` shuffled and cut into full batches; a remainder is dropped, since active ratios depend on the size.

    With fewer rows than `batch_size`, there is one batch of all rows.
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
    """Batches with `samples_per_class` rows of each of their classes; `labels` has one entry for each of `rows`.

    Each batch uses the classes with the most remaining rows (ties are broken at random); the order of the
    batches is shuffled. An epoch ends when too few classes have enough rows left, so with a long tail it is
    short. All classes have the same weight in a batch, independent of their size, so the mean loss over such batches
    differs from the mean over random batches.

    `batch_size` is rounded down to a multiple of `samples_per_class`. A class with fewer rows is left out of all
    batches (`leave-out`); with `repeat` it appears once per epoch, and some of its rows are repeated: these are the
    only rows that appear twice. `m_per_class_notes` reports in words which of these cases happen.
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
    """One line if the batch size is rounded, and one if classes are too small, with the names of the first ones."""
    m, size = samples_per_class, _classes_a_batch(batch_size, samples_per_class) * samples_per_class
    notes = []
    if size != batch_size:
        notes.append(
            f"batch_size {batch_size} is not a multiple of samples_per_class {m}: batches have {size} rows"
        )
    small = [some for some in _members(labels) if len(some) < m]
    if small:
        names = [class_names.get(n, str(n)) for n in (int(labels[some[0]]) for some in small)]
        what = {
            "leave-out": "are left out of the training batches (small_classes: repeat would repeat their rows)",
            "repeat": "appear once per epoch, with repeated rows",
        }[small_classes]
        notes.append(
            f"{len(small):,} classes with fewer than {m} training rows ({sum(map(len, small)):,} of {len(labels):,} "
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
    """`members`; if they are fewer than m, some of them are repeated."""
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
    """Batches with a proportional share of each stratum of the remaining rows, rounded so that it is correct on average.

    `strata` has one entry for each of `rows`: its class, or its cell of `kmeans_cells`. The count of a stratum in a
    batch is its exact share, rounded down or up. Only full batches, as in `random_batches`.

    With `positions` (from `positions_along_strata`), sampling inside a stratum is antithetic: rows are paired by
    mirrored position (first with last, second with last but one), and the two of a pair are drawn one after
    the other. They are in the same batch, or in consecutive batches if a batch takes an odd number. Stratified
    and antithetic sampling for contrastive losses: ARCO, https://arxiv.org/abs/2302.01735, which applies it to
    the pixels of an image; applying it to the rows of a dataset is our interpretation.
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


def dirichlet_batches(
    rows: Int[Tensor, " rows"],
    labels: Int[Tensor, " rows"],
    *,
    batch_size: int,
    alpha: float,
    seed: int,
    epoch: int,
) -> list[Int[Tensor, " batch"]]:
    """Batches of unequal classes: the shares of the classes in a batch are drawn from Dir(α, …, α), again for each batch.

    A small `alpha` gives batches of few classes, a large one the same expected number of each class. Each class is a shuffled queue
    without replacement: what a class no longer has is drawn from the others in proportion to their shares, so the last
    batches of an epoch are made of what is left. `labels` has one entry for each of `rows`. Only full batches, as in `random_batches`.
    """
    _check_size(batch_size)
    _check_aligned(rows, labels, "labels")
    if not 0 < alpha < np.inf:
        raise InputError(f"alpha must be a finite number above 0, got {alpha}")
    generator = np.random.default_rng([seed, epoch])
    queues = [generator.permutation(some) for some in _members(labels)]
    left = np.array([len(queue) for queue in queues])
    taken = np.zeros(len(queues), dtype=np.int64)
    size = min(batch_size, len(rows))
    batches = []
    for _ in range(len(rows) // size):
        counts = _filled_counts(generator.dirichlet([alpha] * len(queues)), left, size, generator)
        batch = [queues[one][taken[one] : taken[one] + counts[one]] for one in counts.nonzero()[0]]
        batches.append(rows[torch.from_numpy(generator.permutation(np.concatenate(batch)))])
        left -= counts
        taken += counts
    return batches


def positions_along_strata(
    features: Float[Tensor, "rows width"], strata: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """The position of each row along the first principal direction of its stratum; 0 is the mean of the stratum.

    Computed with 30 steps of the power method: two directions of similar variance may be mixed, which does no harm.
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

    Uses scikit-learn's MiniBatchKMeans; the same result on one machine for the same `seed`. Raises MissingExtra without it.
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


def drawn_batches(
    rows: Int[Tensor, " rows"],
    labels: Int[Tensor, " rows"],
    *,
    terms: str,
    batch_size: int,
    seed: int,
    epoch: int,
) -> list[Int[Tensor, "parts anchors"]]:
    """Batches of single terms: a column is one random pair (two rows) or triplet (three rows) of its anchor.

    A `pair` is an anchor and a partner, which has its class with probability ½; a `triplet` is an anchor, a positive and
    a negative. Partners are drawn uniformly from all of `rows`, not only from the batch. `batch_size` is the number of anchors.
    Each row is an anchor once per epoch, except a remainder, and rows that are alone in their class. For the same seed and
    epoch, pairs and triplets have the same anchors, and the partner of a pair is the positive or the negative of the triplet.

    The protocol of arXiv 2510.02161. Raises InputError without two classes, one of them with two rows.
    """
    if terms not in DRAWN_TERMS:
        raise InputError(f"unknown terms {terms!r}{nearest(terms, DRAWN_TERMS)}")
    _check_size(batch_size)
    _check_aligned(rows, labels, "labels")
    numbers = labels.numpy()
    _, classes, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or sizes.max() < 2:
        raise InputError(
            f"drawn pairs and triplets need two classes, one of them with two rows, got {len(rows)} rows of "
            f"{len(sizes)} classes: use more data"
        )
    generator = np.random.default_rng([seed, epoch])
    anchors = generator.permutation(np.flatnonzero(sizes[classes] > 1))
    size = min(batch_size, len(anchors))
    anchors = anchors[: len(anchors) // size * size]
    # rows sorted by class: a class is an interval, which is left out for a negative, and all but the anchor for a positive
    order = np.argsort(numbers, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    count = sizes[classes[anchors]]
    begin = (np.cumsum(sizes) - sizes)[classes[anchors]]
    positive = begin + generator.integers(count - 1)
    positive += positive >= place[anchors]
    negative = generator.integers(len(rows) - count)
    negative += np.where(negative >= begin, count, 0)
    is_positive = generator.random(len(anchors)) < 0.5
    others = (
        (positive, negative) if terms == "triplet" else (np.where(is_positive, positive, negative),)
    )
    columns = np.stack([anchors, *(order[other] for other in others)])
    return list(rows[torch.from_numpy(columns)].split(size, dim=1))


def share_without_positive(batches: Sequence[Int[Tensor, " _"]]) -> float:
    """Share of anchors that are the only sample of their class in their batch, over batches of labels, in [0, 1].

    To compute it before training: `share_without_positive([labels[rows] for rows in batches])` for the first epoch.
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
    """A warning with one remedy if the share is above TOLERATED_SHARE; else None."""
    if not 0 <= share <= 1:
        raise InputError(f"share must be in [0, 1], got {share}")
    if share <= TOLERATED_SHARE:
        return None
    return (
        f"{share:.0%} of the samples have no other sample of their class in their batch: pair losses cannot use "
        "them as anchors; they are only pushed away. Try: sampler: m_per_class with samples_per_class: 4"
    )


def _members(groups: Int[Tensor, " rows"]) -> list[np.ndarray]:
    """The positions of the rows of each group, groups in ascending order."""
    numbers = groups.numpy()
    _, sizes = np.unique(numbers, return_counts=True)
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])


def _antithetic(
    members: np.ndarray, positions: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """`members` as mirrored pairs, with the pairs and the order inside each pair at random; an odd member stays single."""
    order = members[np.argsort(positions, kind="stable")]
    half = len(order) // 2
    pairs = np.stack([order[:half], order[::-1][:half]], axis=1)
    flipped = generator.permuted(pairs, axis=1)
    alone = [order[half : half + 1]] if len(order) % 2 else []
    blocks = [*flipped, *alone]
    return np.concatenate([blocks[place] for place in generator.permutation(len(blocks))])


def _rounded_shares(left: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """`size` places distributed in proportion to `left`: each share is rounded down or up to a whole number.

    Systematic sampling: the shares are joined in a random order and cut at a random offset.
    """
    order = generator.permutation(len(left))
    total = int(left.sum())
    ends = (np.cumsum(left[order] * size) + generator.integers(total)) // total
    shares = np.empty_like(left)
    shares[order] = np.diff(ends, prepend=0)
    return shares


def _filled_counts(
    shares: np.ndarray, left: np.ndarray, size: int, generator: np.random.Generator
) -> np.ndarray:
    """`size` rows drawn by the shares of the classes, at most `left` of each: what a class lacks is drawn from the others."""
    counts = np.zeros_like(left)
    while (missing := size - counts.sum()) > 0:
        weights = np.where(counts < left, shares, 0.0)
        if not weights.sum() > 0:  # a small alpha gives shares of exactly 0
            weights = (counts < left).astype(np.float64)
        counts += generator.multinomial(missing, weights / weights.sum())
        counts = np.minimum(counts, left)
    return counts


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
