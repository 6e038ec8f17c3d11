"""Measurements of a head after an epoch, and of the reference spaces."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, cast

import pyarrow as pa
import torch
from jaxtyping import Int
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
from lossgauge.ranking.metrics import Retrieval, retrieval
from lossgauge.ranking.per_query import PerQuery
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.study.run.queries import query_table
from lossgauge.training import embed
from lossgauge.types import FeatureSet, Record

RECALL_AT = (1, 2, 4, 5, 8, 10)
"""The k of R@k: those of the paper, and 5 and 10 of arXiv 2510.02161."""

GEOMETRY_COLUMNS = [
    field.name for field in dataclasses.fields(Geometry) if field.name != "per_class"
]


class Measurement(NamedTuple):
    """The measurements of a head."""

    row: Record
    """Numbers for the whole space: columns of the row of an epoch."""
    per_class: dict[str, PerClass]
    """Geometry of each class, for the sides `train` and `test`."""
    test_rows: Int[Tensor, " test"]
    """The rows of the test side in the dataset."""
    per_query: PerQuery | None
    """Retrieval of each sample of the test side; None if it was not asked for."""

    @property
    def classes(self) -> list[Record]:
        """A row for each side and class: an average does not show that one class has collapsed."""
        return [
            {"side": side, **{name: known(value) for name, value in of_class._asdict().items()}}
            for side, per_class in self.per_class.items()
            for of_class in per_class
        ]

    @property
    def queries(self) -> pa.Table | None:
        """A row for each query of the test side; None if they were not asked for."""
        return self.per_query and query_table(self.per_query, self.test_rows)


def measure(
    head: nn.Module,
    features: FeatureSet,
    *,
    with_retrieval: bool,
    with_queries: bool = False,
) -> Measurement:
    """Geometry of both sides of the split, and with `with_retrieval` also retrieval on the test side. Computed on a CPU.

    On a validation slice only retrieval is measured: `validation_…`. A number that is not defined is None.
    """
    row: Record = {}
    per_class: dict[str, PerClass] = {}
    per_query = None
    for side, rows in (("train", features.train), ("test", features.test)):
        embeddings = embed(head, features.features, rows).cpu()
        labels = features.labels[rows]
        space = geometry(embeddings, labels)
        per_class[side] = space.per_class
        row.update({f"{side}_{name}": value for name, value in geometry_columns(space).items()})
        if side == "test" and with_retrieval:
            found = ranked(embeddings, labels, per_query=with_queries)
            row.update(retrieval_columns(found))
            per_query = found.per_query
    if features.validation is not None and with_retrieval:
        held_out = features.validation
        embeddings = embed(head, features.features, held_out).cpu()
        columns = retrieval_columns(ranked(embeddings, features.labels[held_out]))
        row.update({f"validation_{name}": value for name, value in columns.items()})
    return Measurement(row, per_class, features.test, per_query)


def geometry_columns(space: Geometry) -> Record:
    """Geometry as a flat row, with the smallest intra of a class; a number that is not defined is None."""
    smallest = float(space.per_class.intra.nan_to_num(torch.inf).min())
    columns = {name: _finite(getattr(space, name)) for name in GEOMETRY_COLUMNS}
    return {**columns, "smallest_class_intra": smallest}


def queries_of(head: nn.Module, features: FeatureSet) -> pa.Table:
    """A row for each query of the test side."""
    embeddings = embed(head, features.features, features.test).cpu()
    found = ranked(embeddings, features.labels[features.test], per_query=True)
    return query_table(cast(PerQuery, found.per_query), features.test)


def ranked(embeddings: Tensor, labels: Tensor, *, per_query: bool = False) -> Retrieval:
    """Retrieval by cosine similarity; an embedding of zeros is equally similar to all others."""
    # directions in float64: in a narrow cone, the rounding of a float32 norm would change the order of neighbours
    _, directions = norms_and_directions(embeddings)
    return retrieval(directions, labels, recall_at=RECALL_AT, per_query=per_query)


def retrieval_columns(scores: Retrieval) -> Record:
    """Retrieval as a flat row."""
    return {
        **{f"recall_at_{k}": value for k, value in scores.recall_at.items()},
        "r_precision": scores.r_precision,
        "map_at_r": scores.map_at_r,
    }


class References(NamedTuple):
    """The reference spaces of the test side of a dataset."""

    rows: list[Record]
    """One for each of frozen features (normalised), random unit vectors, full collapse."""
    frozen_queries: pa.Table
    """A row for each query among the frozen features."""


def references(features: FeatureSet, *, width: int) -> References:
    """The reference spaces, measured. `width` is that of the random vectors."""
    labels = features.labels[features.test]
    _, frozen = norms_and_directions(features.features[features.test])
    random = random_unit_vectors(labels, width=width)
    collapsed = full_collapse(labels, width=width)
    of_frozen = ranked(frozen, labels, per_query=True)
    spaces: tuple[tuple[str, Tensor, Record], ...] = (
        (FROZEN, frozen, retrieval_columns(of_frozen)),
        (RANDOM, random, retrieval_columns(ranked(random, labels))),
        # equal points have no order, so retrieval is not defined
        (COLLAPSE, collapsed, {}),
    )
    rows = [
        {
            "dataset": features.dataset,
            "reference": name,
            **geometry_columns(geometry(space, labels)),
            **columns,
        }
        for name, space, columns in spaces
    ]
    return References(rows, query_table(cast(PerQuery, of_frozen.per_query), features.test))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
