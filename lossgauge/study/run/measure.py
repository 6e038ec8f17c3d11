"""What is measured of a head at the end of an epoch, and of the spaces that stand beside it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from lossgauge.diagnostics.references import (
    COLLAPSE,
    FROZEN,
    RANDOM,
    full_collapse,
    random_unit_vectors,
)
from lossgauge.diagnostics.variance import Geometry, geometry
from lossgauge.ranking.metrics import retrieval
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.training import embed
from lossgauge.types import FeatureSet, Record

GEOMETRY_COLUMNS = [
    field.name for field in dataclasses.fields(Geometry) if field.name != "per_class"
]


def measure(head: nn.Module, features: FeatureSet, *, with_retrieval: bool) -> Record:
    """Geometry of both sides of the split, and retrieval on the test side; None where not measured. On a CPU.

    Of a validation slice, retrieval alone, as `validation_…`.
    """
    row: Record = {}
    for side, rows in (("train", features.train), ("test", features.test)):
        embeddings = embed(head, features.features, rows).cpu()
        labels = features.labels[rows]
        found = geometry_columns(embeddings, labels)
        row.update({f"{side}_{name}": value for name, value in found.items()})
        if side == "test" and with_retrieval:
            row.update(retrieval_columns(embeddings, labels))
    if features.validation is not None and with_retrieval:
        held = features.validation
        embeddings = embed(head, features.features, held).cpu()
        found = retrieval_columns(embeddings, features.labels[held])
        row.update({f"validation_{name}": value for name, value in found.items()})
    return row


def geometry_columns(embeddings: Tensor, labels: Tensor) -> Record:
    """Geometry as a flat row, with the smallest class's intra; None where a number is not defined."""
    found = geometry(embeddings, labels)
    smallest = float(found.per_class.intra.nan_to_num(torch.inf).min())
    columns = {name: _finite(getattr(found, name)) for name in GEOMETRY_COLUMNS}
    return {**columns, "smallest_class_intra": smallest}


def class_rows(head: nn.Module, features: FeatureSet) -> list[Record]:
    """Geometry per class of both sides, a row each: an average would hide one collapsed class."""
    return [
        {"side": side, **{name: _known(value) for name, value in row._asdict().items()}}
        for side, rows in (("train", features.train), ("test", features.test))
        for row in geometry(
            embed(head, features.features, rows).cpu(), features.labels[rows]
        ).per_class
    ]


def retrieval_columns(embeddings: Tensor, labels: Tensor) -> Record:
    """Retrieval by cosines as a flat row; a row of zeros is as near to all."""
    # directions in float64: in a narrow cone, the rounding of a float32 norm would decide between neighbours
    _, directions = norms_and_directions(embeddings)
    found = retrieval(directions, labels)
    return {
        **{f"recall_at_{k}": value for k, value in found.recall_at.items()},
        "r_precision": found.r_precision,
        "map_at_r": found.map_at_r,
    }


def references(features: FeatureSet, *, width: int) -> list[Record]:
    """The test side as frozen features (normalised), as random unit vectors, and collapsed to a point."""
    labels = features.labels[features.test]
    _, frozen = norms_and_directions(features.features[features.test])
    random = random_unit_vectors(labels, width=width)
    collapsed = full_collapse(labels, width=width)
    return [
        {"dataset": features.dataset, "reference": name, **geometry_columns(rows, labels), **found}
        for name, rows, found in (
            (FROZEN, frozen, retrieval_columns(frozen, labels)),
            (RANDOM, random, retrieval_columns(random, labels)),
            # equal points have no order, so no retrieval
            (COLLAPSE, collapsed, {}),
        )
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
