"""Findings about an embedding space of unit vectors: collapse in its forms, a cone, classes in one place, hubs, norms.

Every check gives a record, also where all is well, so that a reader sees what was checked and what is usual. A check whose
numbers are not defined gives none. The thresholds are our choice, and each stands here only; docs/findings.md says on which
sets they were fixed and how often they detect a planted fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from lossgauge.diagnostics.variance import Geometry
from lossgauge.health.finding import EMBED_CENTERED, Finding, Level, worst_first
from lossgauge.health.records import classes_in_words, finding, level_of
from lossgauge.stats.number_format import rounded

if TYPE_CHECKING:
    from lossgauge.diagnostics.hubness import Hubness
    from lossgauge.stats.intervals import Interval

COLLAPSED = 1e-4
"""intra and inter below this: every sample is at one point, unless classes are apart inside it (a very narrow cone)."""
APART = 0.5
"""intra below this share of inter: classes are apart, however narrow the cone around all of them …"""
ROUNDING = 1e-10
"""… if inter is above this: below it, float32 rows are too coarse for class means to be told from rounding."""
CONE = (0.6, 0.9)
"""Mean similarity of two samples (`offset`) above this: watch, act."""
FEW_DIRECTIONS = (0.5, 0.3)
"""Effective rank below this share of the usable directions: watch, act."""
CLASS_POINT = 1e-6
"""intra of a class below this: all its samples are at one point …"""
CLASS_POINT_SHARE = 1e-3
"""… and also below this share of the median intra of the classes."""
NEURAL_COLLAPSE = 0.01
"""intra below this share of inter: every class is close to one point."""
CHANCE = (3.0, 1.5)
"""Distance between class means, squared, divided by what labels at random would give. Below this: watch, act."""
ONE_PLACE = 0.01
"""Two class means nearer than this share of the mean distance are at one place …"""
SAME_CLASS = 2.0
"""… and so are two whose squared distance is below this multiple of its sampling error: one class with two labels."""
HUBS = (2.0, 5.0)
"""Skew of how often rows are found above this: watch, act."""
NORMS = (0.01, 0.1)
"""R@1 by cosine minus R@1 by dot product above this: watch, act."""
EQUAL_NORMS = 1e-3
"""Row norms whose largest is above the smallest by at most this share are equal."""
FEW_ROWS = 15
"""A finding about a class with fewer rows is never `act`: chance alone gives such classes."""
LEAST_ROWS = 20
"""With fewer rows in all, a cone, few directions and classes that are not separated are not judged: chance gives them."""
_CENTER = (
    "subtract the mean of the training embeddings and normalise again: `z = normalize(z - z_train.mean(0))`, for stored ones "
    + EMBED_CENTERED
)


def space_findings(
    geometry: Geometry,
    *,
    hubness: Hubness | None = None,
    names: Mapping[int, str] | None = None,
    width: int | None = None,
    row_name: Callable[[int], str] = str,
    centered: bool = False,
) -> list[Finding]:
    """What the geometry of unit vectors says about their space, the worst first.

    `names` are the class names by label, and `row_name` gives the id of a row. Without the `width` of the rows, the check of directions in use is left out
    where there are more classes than such a width usually has. A space at one point gives that finding only. No advice is to subtract the mean of
    rows that are `centered` already. Of fewer than 20 rows, a cone, few directions and separation are not judged.
    """
    collapse = _collapse(geometry)
    if collapse is not None and collapse.level == "act":
        return [collapse]
    findings = [
        collapse,
        _class_collapse(geometry, names),
        _neural_collapse(geometry),
        _same_place(geometry, names),
    ]
    if geometry.sample_count >= LEAST_ROWS:
        findings += [
            _cone(geometry, centered),
            _few_directions(geometry, width),
            _not_separated(geometry),
        ]
    if hubness is not None:
        findings.append(_hubs(hubness, row_name, centered))
    return worst_first(found for found in findings if found is not None)


def norm_findings(
    norms: tuple[float, float],
    *,
    cosine_recall: float,
    dot_recall: float,
    difference: Interval | None = None,
    sample: int | None = None,
) -> list[Finding]:
    """Whether the norms of the rows matter: R@1 by cosine beside R@1 by dot product, of rows that are not normalised.

    `norms` are the smallest and the largest. An empty list if they are equal, where both rank alike. `difference` is that of
    the two, paired by query: if it has an interval with 0 inside, it may be chance, and the level is `ok`. `sample` is the number
    of rows that were compared, where these are not all.
    """
    smallest, largest = norms
    if not largest > smallest * (1 + EQUAL_NORMS):
        return []
    lost = cosine_recall - dot_recall
    by_norm = lost < 0
    paired = difference is not None and difference.half_width is not None
    by_chance = difference is not None and paired and not difference.excludes_zero
    of_sample = "" if sample is None else f" among a sample of {sample:,} rows"
    sure = f" (difference {_points(difference)}, paired by query)" if difference and paired else ""
    return [
        finding(
            "norms",
            "ok" if by_chance else level_of(abs(lost), NORMS),
            "the space",
            f"R@1{of_sample} is {cosine_recall:.1%} by cosine and {dot_recall:.1%} by dot product{sure}; row norms are between "
            f"{' and '.join(_told_apart(smallest, largest))}",
            f"a difference of up to {100 * NORMS[0]:g} point is small, and one whose interval contains 0 may be chance",
            why="The norms carry information that cosine drops."
            if by_norm
            else "Rows with a large norm are near to everything by dot product, so they push the right rows back.",
            advice='search by dot product: `lg.retrieval(z, y, similarity="dot")`, an index of inner products'
            if by_norm
            else "normalise the rows before you index or compare them: `z = torch.nn.functional.normalize(z)`",
        )
    ]


def _points(of: Interval) -> str:
    return f"{rounded(100 * of.mean, 1)} ± {rounded(100 * (of.half_width or 0.0), 1)} points"


def _told_apart(smallest: float, largest: float) -> tuple[str, str]:
    """Two numbers with three significant digits, or with as many as it takes to tell them apart."""
    for digits in range(3, 17):
        low, high = f"{smallest:.{digits}g}", f"{largest:.{digits}g}"
        if low != high:
            break
    return low, high


def chance_ratio(geometry: Geometry) -> float:
    """Mean squared distance of class means, divided by its expectation if the labels were in random order.

    About 1 for labels that have nothing to do with the rows, whatever the sizes of the classes: E‖μ − μ'‖² is then
    σ²/N + σ²/N'. The within-class variance estimates σ², so the ratio is an F statistic. NaN if no class has two rows.
    """
    classes = geometry.per_class
    known = classes.size > 1
    error = (classes.intra / (classes.size - 1))[known]
    expected = 2 * float(error.mean()) if len(error) else math.nan
    return geometry.inter / expected if expected > 0 else math.nan


def _collapse(of: Geometry) -> Finding | None:
    if math.isnan(of.intra) or math.isnan(of.inter):
        return None
    small = of.intra < COLLAPSED and of.inter < COLLAPSED
    apart = of.inter > ROUNDING and of.intra < APART * of.inter
    return finding(
        "collapse",
        "act" if small and not apart else "ok",
        "the space",
        f"intra {of.intra:.2g} and inter {of.inter:.2g}",
        f"both below {COLLAPSED:g} mean that all samples are at one point, unless intra is below {APART:g} of inter: classes are then "
        "apart in a narrow cone"
        if small and apart
        else f"both below {COLLAPSED:g} mean that all samples are at one point",
        why="All samples are at one point, so nothing can be told apart. Equal points have no direction to leave in, so the training "
        "does not recover by itself.",
        advice="start again with a tenth of the learning rate, or with `scl` or `info_nce`, which push apart what differs only a little",
    )


def _cone(of: Geometry, centered: bool) -> Finding | None:
    if math.isnan(of.offset):
        return None
    level = level_of(of.offset, CONE)
    return finding(
        "cone",
        level,
        "the space",
        f"two samples{' of different classes' if of.class_count > 1 else ''} have a similarity of about {of.offset:.2f} on average",
        f"0 if the sphere is used evenly; above {CONE[0]:g} the embeddings share a large common part, above {CONE[1]:g} any two look "
        "the same",
        why="All embeddings point in nearly the same direction, so every similarity is high and no threshold on it means much."
        if level == "act"
        else "A large part of each embedding is common to all, so similarities are high on average, and a threshold from another model "
        "does not fit.",
        advice=("" if centered else f"{_CENTER}; or ")
        + "train with a loss that pushes classes apart",
    )


def _few_directions(of: Geometry, width: int | None) -> Finding | None:
    usable = _usable_directions(of.class_count, width)
    if math.isnan(of.effective_rank) or usable is None or usable < 2:
        return None
    of_width = "" if width is None else f" of {width}"
    return finding(
        "few-directions",
        level_of(of.effective_rank / usable, FEW_DIRECTIONS),
        "the space",
        f"the embeddings use about {of.effective_rank:.1f}{of_width} directions",
        f"{usable} directions are enough to keep {of.class_count} classes equally apart"
        if usable == of.class_count - 1
        else f"{usable} can be used",
        why="The space has collapsed to few directions (dimensional collapse), so classes overlap that could be apart, and new "
        "classes have no room.",
        advice="lower the learning rate or raise the temperature; if the backbone is trained, weight_decay or fewer epochs; "
        "a loss with many negatives, such as scl, spreads the space",
    )


UNKNOWN_WIDTH = 16
"""Rows are taken to have at least this width if nothing else is known."""


def _usable_directions(class_count: int, width: int | None) -> int | None:
    """Directions that a space needs to keep its classes equally apart: a simplex of C classes has C − 1.

    None without classes: how many directions rows need depends on what they shall tell apart.
    """
    if class_count < 2:
        return None
    if width is None:
        return class_count - 1 if class_count <= UNKNOWN_WIDTH + 1 else None
    return min(width, class_count - 1)


def _class_collapse(of: Geometry, names: Mapping[int, str] | None) -> Finding | None:
    intra = of.per_class.intra
    known = ~intra.isnan()
    if not known.any():
        return None
    typical = float(intra[known].median())
    points = is_point(intra, typical=typical) & known
    reference = f"the usual intra of a class is {typical:.2g}"
    if not points.any() or points.sum() == known.sum():
        smallest = float(intra[known].min())
        return finding(
            "class-collapse",
            "ok",
            "the space",
            f"the smallest intra of a class is {smallest:.2g}",
            reference,
        )
    labels = of.per_class.label[points].tolist()
    large = bool((of.per_class.size[points] >= FEW_ROWS).any())
    return finding(
        "class-collapse",
        "act" if large else "watch",
        classes_in_words(labels, names),
        f"{len(labels)} of {of.class_count} classes {'is' if len(labels) == 1 else 'are'} at one point: intra at most "
        f"{float(intra[points].max()):.1g}",
        reference,
        why="All its samples have the same embedding; averages over classes do not show it. Usually they are copies of one image, or "
        "a constant input.",
        advice="look at the rows of the class and remove the copies; otherwise train for fewer epochs",
    )


def is_point(intra: Tensor, *, typical: float) -> Bool[Tensor, " classes"]:
    """Whether a class is at one point, beside classes with a `typical` intra."""
    return (intra < CLASS_POINT) | (intra < CLASS_POINT_SHARE * typical)


def _neural_collapse(of: Geometry) -> Finding | None:
    ratio = of.intra_inter_ratio
    if math.isnan(ratio):
        return None
    return finding(
        "neural-collapse",
        "watch" if ratio < NEURAL_COLLAPSE else "ok",
        "the space",
        f"intra is {ratio:.2g} of inter",
        f"below {NEURAL_COLLAPSE:g} each class is close to one point",
        why="Each class has shrunk to one point (neural collapse). That is harmless while there are no new classes; the "
        "differences inside a class, which new classes need, are lost.",
        advice="nothing for a closed set; for new classes, fewer epochs, a smaller margin or a lower temperature",
    )


def _not_separated(of: Geometry) -> Finding | None:
    ratio = chance_ratio(of)
    if math.isnan(ratio):
        return None
    return finding(
        "not-separated",
        level_of(ratio, CHANCE),
        "the space",
        f"class means are {ratio:.1f} times as far apart (squared) as with labels in random order",
        f"1 is chance; below {CHANCE[1]:g} the labels have nothing to do with the rows",
        why="Classes are hardly apart. Either the rows and the labels are not in the same order, or nothing has been learned.",
        advice="check that labels[i] belongs to embeddings[i] (a shuffled loader, a sorted file); then train longer",
    )


def _same_place(of: Geometry, names: Mapping[int, str] | None) -> Finding | None:
    classes = of.per_class
    if (
        len(classes) == 0
        or math.isnan(of.spacing_mean)
        or of.spacing_mean == 0
        or level_of(chance_ratio(of), CHANCE) != "ok"
    ):
        return None
    error = (classes.intra / (classes.size - 1)).nan_to_num(torch.inf)
    position = torch.searchsorted(classes.label.contiguous(), classes.nearest.contiguous())
    # the error of a class of one row is not known: only its distance counts
    expected = torch.where((error + error[position]).isinf(), 0, error + error[position])
    near = classes.distance < ONE_PLACE * of.spacing_mean
    same = near | (classes.distance.square() < SAME_CLASS * expected)
    closest = classes.distance / of.spacing_mean
    at = int(torch.where(same, closest, torch.inf).argmin() if same.any() else closest.argmin())
    pair = [int(classes.label[at]), int(classes.nearest[at])]
    rows = min(int(classes.size[at]), int(classes.size[position[at]]))
    level: Level = "ok" if not same.any() else "act" if near[at] or rows >= FEW_ROWS else "watch"
    others = f"; {int(same.sum())} classes are that near to another" if int(same.sum()) > 2 else ""
    return finding(
        "same-place",
        level,
        classes_in_words(sorted(pair), names),
        f"their means are {float(classes.distance[at]):.2g} apart{others}",
        f"two classes are {of.spacing_mean:.2g} apart on average; one class with two labels would be about "
        f"{math.sqrt(float(expected[at])):.2g} apart"
        if expected[at] > 0
        else f"two classes are {of.spacing_mean:.2g} apart on average",
        why="Two classes are in one place: probably one class with two labels.",
        advice="look at the rows of both; if they show the same, give them one label",
    )


def _hubs(of: Hubness, row_name: Callable[[int], str], centered: bool) -> Finding | None:
    if math.isnan(of.skew):
        return None
    return finding(
        "hubs",
        level_of(of.skew, HUBS),
        "the space",
        f"row {row_name(of.most_found_row)} is among the {of.k} nearest of {of.most_found} of {of.row_count:,} rows"
        + (
            f", and {of.never_found:.1%} of the rows are among the nearest of none"
            if of.never_found
            else ""
        )
        + f" (skew {of.skew:.2f})",
        f"each row is found {of.k} times on average; a skew below {HUBS[0]:g} is usual",
        why="A few rows are near to very many others (hubs), so searches return them again and again"
        + (", and other rows are never found." if of.never_found else "."),
        advice="look at that row, which may be an empty or blank input"
        + (
            ""
            if centered
            else "; subtract the mean of the training embeddings and normalise again, for stored ones with "
            + EMBED_CENTERED
        ),
    )
