"""Measurements of a head after an epoch, and of the reference spaces."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossgauge.diagnostics.probe import known
from lossgauge.diagnostics.references import (
    COLLAPSE,
    FROZEN,
    RANDOM,
    full_collapse,
    random_unit_vectors,
)
from lossgauge.diagnostics.variance import Geometry, PerClass, geometry
from lossgauge.ranking.metrics import retrieval
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.training import embed
from lossgauge.types import FeatureSet, Record

GEOMETRY_COLUMNS = [
    field.name for field in dataclasses.fields(Geometry) if field.name != "per_class"
]


class Measurement(NamedTuple):
    """The measurements of a head."""

    row: Record
    """Numbers for the whole space: columns of the row of an epoch."""
    per_class: dict[str, PerClass]
    """Geometry of each class, for the sides `train` and `test`."""

    @property
    def classes(self) -> list[Record]:
        """A row for each side and class: an average does not show that one class has collapsed."""
        return [
            {"side": side, **{name: known(value) for name, value in of_class._asdict().items()}}
            for side, per_class in self.per_class.items()
            for of_class in per_class
        ]


def measure(head: nn.Module, features: FeatureSet, *, with_retrieval: bool) -> Measurement:
    """Geometry of both sides of the split, and with `with_retrieval` also retrieval on the test side. Computed on a CPU.

    On a validation slice only retrieval is measured: `validation_…`. A number that is not defined is None.
    """
    row: Record = {}
    per_class: dict[str, PerClass] = {}
    for side, rows in (("train", features.train), ("test", features.test)):
        embeddings = embed(head, features.features, rows).cpu()
        labels = features.labels[rows]
        space = geometry(embeddings, labels)
        per_class[side] = space.per_class
        row.update({f"{side}_{name}": value for name, value in geometry_columns(space).items()})
        if side == "test" and with_retrieval:
            row.update(retrieval_columns(embeddings, labels))
    if features.validation is not None and with_retrieval:
        held_out = features.validation
        embeddings = embed(head, features.features, held_out).cpu()
        columns = retrieval_columns(embeddings, features.labels[held_out])
        row.update({f"validation_{name}": value for name, value in columns.items()})
    return Measurement(row, per_class)


def geometry_columns(space: Geometry) -> Record:
    """Geometry as a flat row, with the smallest intra of a class; a number that is not defined is None."""
    smallest = float(space.per_class.intra.nan_to_num(torch.inf).min())
    columns = {name: _finite(getattr(space, name)) for name in GEOMETRY_COLUMNS}
    return {**columns, "smallest_class_intra": smallest}


def retrieval_columns(embeddings: Tensor, labels: Tensor) -> Record:
    """Retrieval by cosine similarity as a flat row; an embedding of zeros is equally similar to all others."""
    # directions in float64: in a narrow cone, the rounding of a float32 norm would change the order of neighbours
    _, directions = norms_and_directions(embeddings)
    scores = retrieval(directions, labels)
    return {
        **{f"recall_at_{k}": value for k, value in scores.recall_at.items()},
        "r_precision": scores.r_precision,
        "map_at_r": scores.map_at_r,
    }


def references(features: FeatureSet, *, width: int) -> list[Record]:
    """Rows of the reference spaces of the test side: frozen features (normalised), random unit vectors, full collapse."""
    labels = features.labels[features.test]
    _, frozen = norms_and_directions(features.features[features.test])
    random = random_unit_vectors(labels, width=width)
    collapsed = full_collapse(labels, width=width)
    spaces: tuple[tuple[str, Tensor, Record], ...] = (
        (FROZEN, frozen, retrieval_columns(frozen, labels)),
        (RANDOM, random, retrieval_columns(random, labels)),
        # equal points have no order, so retrieval is not defined
        (COLLAPSE, collapsed, {}),
    )
    return [
        {
            "dataset": features.dataset,
            "reference": name,
            **geometry_columns(geometry(rows, labels)),
            **columns,
        }
        for name, rows, columns in spaces
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
