"""Bad signs of an embedding space in words: what is seen, by which number, and one thing to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lossgauge.diagnostics.variance import Geometry

COLLAPSED = 1e-4
"""intra and inter below this: every sample in one place. Above, a narrow cone may still hold its order."""
CLASS_POINT = 1e-6
"""Intra of a class below this: all its samples in one place."""
ONE_PLACE = 0.01
"""Two class means nearer than this share of the mean distance: one class under two labels, most likely."""
NOT_APART = 10
"""Variance inside classes over that between them, above this."""
ONE_WAY = 0.9
"""offset above this: any two samples look alike."""
LEAST_RANK = 2.0
"""Effective rank below this: hardly more than one direction."""


class Sign(NamedTuple):
    """One thing that is not as it should be."""

    words: str
    evidence: str
    remedy: str


def signs(of: Geometry, names: Mapping[int, str] | None = None) -> list[Sign]:
    """Bad signs of a geometry of unit vectors, the worst first; an empty list where there is none.

    `names` are those of the classes, by label; one without a name is shown by its label.

    The thresholds are our choice, set where a space is of no use rather than merely not good.
    """
    names, found = names or {}, []
    if of.intra < COLLAPSED and of.inter < COLLAPSED:
        found.append(
            Sign(
                "the whole space has collapsed to one point",
                f"intra {of.intra:.2g} and inter {of.inter:.2g} are both near 0",
                "lower the learning rate or the margin; with triplets, the loss then sits at its margin "
                "with every triplet active and no gradient, so it does not recover by itself: start again",
            )
        )
        return found
    collapsed = of.per_class.label[of.per_class.intra < CLASS_POINT].tolist()
    if collapsed:
        found.append(
            Sign(
                f"{len(collapsed)} of {of.class_count} classes have collapsed to a point each",
                f"intra below {CLASS_POINT:g} in classes {_some([_name(label, names) for label in collapsed])}",
                "look for duplicated images in them; else train for fewer epochs or soften the pull",
            )
        )
    if of.spacing_min_ratio < ONE_PLACE:
        one = int(of.per_class.distance.argmin())
        label, other = int(of.per_class.label[one]), int(of.per_class.nearest[one])
        found.append(
            Sign(
                "two classes lie in one place",
                f"classes {_name(label, names)} and {_name(other, names)}: their means are nearer than 1 % of the usual distance",
                "look at the images of both: one class under two labels?",
            )
        )
    if of.effective_rank < LEAST_RANK:
        found.append(
            Sign(
                "the space uses hardly more than one direction",
                f"effective rank {of.effective_rank:.2f}",
                "a softer loss (higher temperature, smaller margin) or a lower learning rate",
            )
        )
    if of.offset > ONE_WAY:
        found.append(
            Sign(
                "all embeddings point the same way, so any two look alike",
                f"offset {of.offset:.3f} of 1: the mean similarity of two samples is about as high",
                "subtract the mean from the embeddings, or train with a loss that pushes classes apart",
            )
        )
    if of.intra_inter_ratio > NOT_APART:
        found.append(
            Sign(
                "classes are not told apart",
                f"variance inside classes is {of.intra_inter_ratio:.0f} times that between them",
                "check that the labels belong to these rows; then train longer",
            )
        )
    return found


def _name(label: int, names: Mapping[int, str]) -> str:
    return names.get(label, str(label))


def _some(classes: list[str]) -> str:
    return ", ".join(classes[:5]) + (" …" if len(classes) > 5 else "")
