"""The training rows that keep their label: a share, a number per class, or a long tail of class sizes.

Drawn from a seed. Of one seed, the rows of a smaller share or number are a part of those of a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from lossgauge.errors import InputError

SHARE, PER_CLASS, LONG_TAIL = FORMS = ("share", "per_class", "long_tail")

_STREAM = 1_009
"""Apart from the samplers, which draw from (seed, epoch)."""


def labelled_rows(
    labels: Int[np.ndarray, " rows"],
    train: Int[np.ndarray, " train"],
    *,
    seed: int,
    **form: float,
) -> Int[np.ndarray, " labelled"]:
    """The rows of `train` that keep their label, ascending. `form` is one of:

    - `share`: this share of each class, rounded (a half upwards);
    - `per_class`: this number of rows of each class;
    - `long_tail`: the ratio of the largest to the smallest class. Sizes fall geometrically from the size n of the smallest
      class of `train`: n · ratio^(−r/(C−1)) rows for r = 0 … C−1, with the classes in a random order.

    Raises InputError if a class has too few rows, or would keep none.
    """
    generator = np.random.default_rng([seed, _STREAM])
    classes = np.unique(labels[train])
    # one order of each class, whatever the form: so that the draws are nested
    members = [generator.permutation(train[labels[train] == label]) for label in classes]
    kept = _kept(np.array([len(rows) for rows in members]), classes, **form)
    if LONG_TAIL in form:
        kept = generator.permutation(kept)
    return np.sort(np.concatenate([rows[:n] for rows, n in zip(members, kept, strict=True)]))


def labelled_count(
    labels: Int[np.ndarray, " rows"], train: Int[np.ndarray, " train"], **form: float
) -> int:
    """How many rows `labelled_rows` keeps, which does not depend on the seed. Raises InputError as it does."""
    classes, sizes = np.unique(labels[train], return_counts=True)
    return int(_kept(sizes, classes, **form).sum())


def in_words(form: Mapping[str, float]) -> str:
    """`5 per class`, `1% labelled` or `long tail 100`: as it is shown behind the name of a dataset."""
    ((name, value),) = form.items()
    if name == SHARE:
        return f"{100 * value:g}% labelled"
    return f"{value:g} per class" if name == PER_CLASS else f"long tail {value:g}"


def _kept(
    sizes: Int[np.ndarray, " classes"], classes: Int[np.ndarray, " classes"], **form: float
) -> Int[np.ndarray, " classes"]:
    """How many rows of each class stay; of a long tail, from the largest to the smallest."""
    if len(form) != 1 or not form.keys() <= {*FORMS}:
        raise InputError(f"labels take one of {', '.join(FORMS)}, got {', '.join(form) or 'none'}")
    ((name, value),) = form.items()
    smallest = int(sizes.min())
    where = f"class {classes[sizes.argmin()]} has {smallest:,} training rows"
    if name == PER_CLASS:
        if smallest < value:
            raise InputError(
                f"labels: per_class {value:g} is above the rows of a class: {where}; give at most {smallest}"
            )
        return np.full(len(sizes), int(value))
    if name == SHARE:
        kept = np.floor(sizes * value + 0.5).astype(np.int64)
        if not kept.all():
            raise InputError(
                f"labels: share {value:g} leaves a class without a row: {where}; give at least {0.5 / smallest:.2g}"
            )
        return kept
    ranks = np.arange(len(sizes)) / max(1, len(sizes) - 1)
    kept = np.floor(smallest * value**-ranks + 0.5).astype(np.int64)
    if not kept.all():
        raise InputError(
            f"labels: long_tail {value:g} leaves a class without a row: {where}; give at most {2 * smallest}"
        )
    return kept
