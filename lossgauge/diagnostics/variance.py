"""VARIANCE: the geometry of an embedding space, per class first and then averaged over classes.

arXiv 2601.21450 for intra- and inter-class variance; Galanti et al. 2022 for CDNV; Roy & Vetterli 2007 for
the effective rank; Wang & Isola 2020 for alignment and uniformity. `docs/definitions.md` has the formulas.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lossgauge.batch import ArrayLike, as_batch
from lossgauge.diagnostics.moments import Moments, moments, overall_mean
from lossgauge.diagnostics.scale import LARGEST_ENTRY, LEAST_ENTRY, power_of_two
from lossgauge.diagnostics.spacing import spacing
from lossgauge.diagnostics.spectrum import effective_rank
from lossgauge.diagnostics.uniformity import uniformity as uniformity_of
from lossgauge.errors import InputError


class ClassGeometry(NamedTuple):
    """One class: a row of `PerClass`."""

    label: int
    size: int
    intra: float
    """(1/N) Σ ‖z − μ‖²; NaN for a class of one sample, which has no variance."""
    margin: float
    """Distance to the nearest other class mean, minus 2·√intra; NaN for a class of one sample."""
    nearest: int
    """Label of that nearest other class."""
    spacing: float
    """Mean distance to the other class means."""


@dataclass(frozen=True)
class PerClass:
    """Columns over classes in ascending order of label.

    `per_class["intra"]` is a column, `per_class[3]` the row of the class labelled 3.
    """

    label: Int[Tensor, " classes"]
    size: Int[Tensor, " classes"]
    intra: Float64[Tensor, " classes"]
    margin: Float64[Tensor, " classes"]
    nearest: Int[Tensor, " classes"]
    spacing: Float64[Tensor, " classes"]
    distance: Float64[Tensor, " classes"]
    """Distance to the nearest other class mean; also known for a class of one sample. In no row and no table."""

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            if key not in ClassGeometry._fields:
                raise KeyError(f"no column {key!r}; known: {', '.join(ClassGeometry._fields)}")
            return getattr(self, key)
        at = (self.label == key).nonzero().flatten()
        if not len(at):
            raise KeyError(f"no class has the label {key}")
        return ClassGeometry(*(getattr(self, name)[at[0]].item() for name in ClassGeometry._fields))

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[ClassGeometry]:
        columns = (getattr(self, name).tolist() for name in ClassGeometry._fields)
        return itertools.starmap(ClassGeometry, zip(*columns, strict=True))


@dataclass(frozen=True)
class Geometry:
    """Macro averages over classes; squared Euclidean units. Ranges in brackets hold on the unit sphere."""

    intra: float
    """(1/C) Σ_c (1/N_c) Σ ‖z − μ_c‖² [0, 1]: diversity inside classes. 0 is collapse."""
    inter: float
    """Mean over ordered pairs of classes of ‖μ_c − μ_c'‖² [0, 2C/(C−1)]."""
    offset: float
    """‖mean of the class means‖² [0, 1]: 0 means a balanced sphere, 1 means all in one direction."""
    spacing_mean: float
    """Mean distance between two class means."""
    spacing_cv: float
    """Standard deviation of those distances divided by their mean: a high value means uneven spacing."""
    spacing_min_ratio: float
    """Smallest of those distances divided by their mean: 0 means two classes at one point."""
    margin: float
    """Mean over classes of the distance to the nearest other mean, minus 2·√intra_c."""
    intra_inter_ratio: float
    cdnv: float
    """Class-distance normalised variance: mean over pairs of (intra_c + intra_c')/(2‖μ_c − μ_c'‖²)."""
    effective_rank: float
    """exp of the spectral entropy of the centred covariance [1, width]: directions in use."""
    alignment: float
    """Mean squared distance between two samples of a class, averaged over classes [0, 4]."""
    uniformity: float
    """log mean e^{−2‖z − z'‖²} over pairs [−8, 0]: it does not show dimensional collapse, so never use it alone."""
    class_count: int
    sample_count: int
    singleton_count: int
    """Classes of one sample: they count in inter, offset and spacing, but not in numbers that need a variance."""
    per_class: PerClass


def geometry(embeddings: ArrayLike, labels: ArrayLike) -> Geometry:
    """Geometry of labelled embeddings, without normalising them. Computed in float64.

    NaN if a number is not defined, for example the ratios of a space that collapsed to one point. Raises InputError
    for an empty or non-finite batch, for fewer than two classes, if every class has only one sample, and if a
    squared distance is too large or too small for float64.
    Time grows as rows × width × the smaller of the two, and as classes² × width; memory as rows and classes × width,
    and as width² where the rows are more than that. 60,000 rows of width 128 in 11,316 classes take about 2 s on
    one thread, and 100 MB.
    """
    rows, numbers = as_batch(embeddings, labels)
    rows = rows.detach()
    unit = _unit(rows)
    inside = rows if unit == 1 else rows.double() / unit
    measured = geometry_of(moments(inside, numbers), uniformity=uniformity_of(rows))
    return measured if unit == 1 else _in_units(measured, unit)


def geometry_of(of: Moments, *, uniformity: float = math.nan) -> Geometry:
    """Geometry from moments, which contain everything except the uniformity. Memory grows as classes × width."""
    classes = len(of.labels)
    if classes < 2:
        raise InputError(
            f"geometry compares classes and needs at least two, got only label {int(of.labels[0])}"
        )
    single = of.sizes == 1
    if single.all():
        raise InputError(
            f"each of the {classes} classes has only one sample, so no class has a variance; "
            "give at least one class two samples"
        )
    intra_c = (of.scatter / of.sizes).masked_fill(single, math.nan)
    between = spacing(of.mean, intra_c)
    margin_c = between.distance - 2 * intra_c.sqrt()
    intra = float(intra_c.nanmean())
    return Geometry(
        intra=intra,
        inter=between.inter,
        offset=float(of.mean.mean(dim=0).square().sum()),
        spacing_mean=between.mean,
        spacing_cv=_ratio(between.deviation, between.mean),
        spacing_min_ratio=_ratio(float(between.distance.min()), between.mean),
        margin=float(margin_c.nanmean()),
        intra_inter_ratio=_ratio(intra, between.inter),
        cdnv=between.cdnv,
        effective_rank=effective_rank(of),
        alignment=float((2 * of.scatter / (of.sizes - 1))[~single].mean()),
        uniformity=uniformity,
        class_count=classes,
        sample_count=int(of.sizes.sum()),
        singleton_count=int(single.sum()),
        per_class=PerClass(
            label=of.labels,
            size=of.sizes,
            intra=intra_c,
            margin=margin_c,
            nearest=of.labels[between.nearest],
            spacing=between.of_class,
            distance=between.distance,
        ),
    )


def geometry_without_classes(of: Moments, *, uniformity: float = math.nan) -> Geometry:
    """The numbers that need no classes: offset of the mean of all rows, effective rank and uniformity; the others are NaN."""
    names = [field.name for field in fields(Geometry) if field.type == "float"]
    nothing = of.scatter[:0]
    known = {
        "offset": float(overall_mean(of).square().sum()),
        "effective_rank": effective_rank(of),
        "uniformity": uniformity,
    }
    return Geometry(
        **dict.fromkeys(names, math.nan) | known,
        class_count=0,
        sample_count=int(of.sizes.sum()),
        singleton_count=0,
        per_class=PerClass(
            label=nothing.long(),
            size=nothing.long(),
            intra=nothing,
            margin=nothing,
            nearest=nothing.long(),
            spacing=nothing,
            distance=nothing,
        ),
    )


def _unit(rows: Float[Tensor, "rows width"]) -> float:
    """The number to divide rows by, so that their squares and the sums of squares fit float64."""
    unit = power_of_two(rows)
    return 1.0 if 2 * LEAST_ENTRY <= unit <= LARGEST_ENTRY else unit


def _in_units(divided: Geometry, unit: float) -> Geometry:
    """The geometry of rows, from the geometry of the same rows divided by `unit`."""
    columns = {
        name: getattr(divided.per_class, name) * unit for name in ("margin", "spacing", "distance")
    }
    columns["intra"] = divided.per_class.intra * unit * unit
    full = replace(
        divided,
        per_class=replace(divided.per_class, **columns),
        **{name: getattr(divided, name) * unit for name in ("spacing_mean", "margin")},
        **{
            name: getattr(divided, name) * unit * unit
            for name in ("intra", "inter", "offset", "alignment")
        },
    )
    if not math.isfinite(full.intra + full.inter + full.offset + full.alignment):
        raise InputError(
            f"squared distances must fit float64, but the largest entry of the embeddings is about {unit:.0e}: scale them down"
        )
    small = torch.finfo(torch.float64).smallest_normal
    if bool(((_squared(divided) != 0) & (_squared(full).abs() < small)).any()):
        raise InputError(
            f"squared distances must fit float64, but the largest entry of the embeddings is only about {unit:.0e}: scale them up"
        )
    return full


def _squared(geometry: Geometry) -> Float64[Tensor, " numbers"]:
    """All numbers that grow with the square of the embeddings."""
    return torch.tensor(
        [
            *(geometry.intra, geometry.inter, geometry.offset, geometry.alignment),
            *geometry.per_class.intra.tolist(),
        ],
        dtype=torch.float64,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
