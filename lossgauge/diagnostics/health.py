"""Known problems of an embedding space in words: the problem, the number that shows it, and one remedy to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lossgauge.diagnostics.variance import Geometry

COLLAPSED = 1e-4
"""intra and inter below this: every sample is at one point. Above this, a narrow cone may still rank correctly."""
CLASS_POINT = 1e-6
"""Intra of a class below this: all its samples are at one point."""
ONE_PLACE = 0.01
"""Two class means nearer than this share of the mean distance: probably one class with two labels."""
NOT_APART = 10
"""Variance inside classes divided by variance between them, above this: classes are not separated."""
ONE_WAY = 0.9
"""offset above this: any two samples are similar."""
LEAST_RANK = 2.0
"""Effective rank below this: the space uses little more than one direction."""


class KnownProblem(NamedTuple):
    """One known problem."""

    words: str
    evidence: str
    remedy: str


def known_problems(
    geometry: Geometry, names: Mapping[int, str] | None = None
) -> list[KnownProblem]:
    """Known problems of a geometry of unit vectors, the worst first; an empty list without problems.

    `names` are the class names by label; a class without a name is shown by its label.

    The thresholds are our choice: they mark spaces that do not work, not spaces that could be better.
    """
    names, problems = names or {}, []
    if geometry.intra < COLLAPSED and geometry.inter < COLLAPSED:
        problems.append(
            KnownProblem(
                "the whole space has collapsed to one point",
                f"intra {geometry.intra:.2g} and inter {geometry.inter:.2g} are both near 0",
                "lower the learning rate or the margin; with triplets, the loss then stays at its margin "
                "with every triplet active and no gradient, so it does not recover by itself: start again",
            )
        )
        return problems
    collapsed = geometry.per_class.label[geometry.per_class.intra < CLASS_POINT].tolist()
    if collapsed:
        problems.append(
            KnownProblem(
                f"{len(collapsed)} of {geometry.class_count} classes have collapsed, each to one point",
                f"intra below {CLASS_POINT:g} in classes {_some([_name(label, names) for label in collapsed])}",
                "look for duplicate images in them; otherwise train for fewer epochs or reduce the pull",
            )
        )
    if geometry.spacing_min_ratio < ONE_PLACE:
        one = int(geometry.per_class.distance.argmin())
        label, other = int(geometry.per_class.label[one]), int(geometry.per_class.nearest[one])
        problems.append(
            KnownProblem(
                "two classes have almost the same mean",
                f"classes {_name(label, names)} and {_name(other, names)}: their means are nearer than 1 % of the usual distance",
                "look at the images of both: do they show one class with two labels?",
            )
        )
    if geometry.effective_rank < LEAST_RANK:
        problems.append(
            KnownProblem(
                "the space uses little more than one direction",
                f"effective rank {geometry.effective_rank:.2f}",
                "a softer loss (higher temperature, smaller margin) or a lower learning rate",
            )
        )
    if geometry.offset > ONE_WAY:
        problems.append(
            KnownProblem(
                "all embeddings point in the same direction, so any two are similar",
                f"offset {geometry.offset:.3f} of 1: the mean similarity of two samples is about as high",
                "subtract the mean from the embeddings, or train with a loss that pushes classes apart",
            )
        )
    if geometry.intra_inter_ratio > NOT_APART:
        problems.append(
            KnownProblem(
                "classes are not separated",
                f"variance inside classes is {geometry.intra_inter_ratio:.0f} times that between them",
                "check that the labels belong to these rows; then train longer",
            )
        )
    return problems


def _name(label: int, names: Mapping[int, str]) -> str:
    return names.get(label, str(label))


def _some(classes: list[str]) -> str:
    return ", ".join(classes[:5]) + (" …" if len(classes) > 5 else "")
