"""Measurements of a head after an epoch, and of the reference spaces."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, cast

import pyarrow as pa
import torch
from torch import Tensor, nn

from lossgauge.diagnostics.probe import known
from lossgauge.diagnostics.references import (
    CENTERED,
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
from lossgauge.study.run.measure_pairs import (
    PairSpace,
    judged,
    judged_columns,
    judged_table,
    pair_space,
    right_documents,
    spread_columns,
)
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
    queries: pa.Table | None
    """A row for each query of the test side; None if they were not asked for."""

    @property
    def classes(self) -> list[Record]:
        """A row for each side and class: an average does not show that one class has collapsed."""
        return [
            {"side": side, **{name: known(value) for name, value in of_class._asdict().items()}}
            for side, per_class in self.per_class.items()
            for of_class in per_class
        ]


def measure(
    head: nn.Module,
    features: FeatureSet,
    *,
    documents: nn.Module | None = None,
    with_retrieval: bool,
    with_queries: bool = False,
) -> Measurement:
    """Geometry of both sides of the split, and with `with_retrieval` also retrieval on the test side. Computed on a CPU.

    On a validation slice only retrieval is measured: `validation_…`. A number that is not defined is None. Of queries and
    documents, `documents` embeds the latter (the head itself if not given); geometry is over the queries of a side and their
    right documents.
    """
    if features.pairs is not None:
        return _measure_pairs(head, documents or head, features, with_retrieval, with_queries)
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
    queries = per_query and query_table(per_query, features.test)
    return Measurement(row, per_class, queries)


def _measure_pairs(
    head: nn.Module,
    documents: nn.Module,
    features: FeatureSet,
    with_retrieval: bool,
    with_queries: bool,
) -> Measurement:
    assert features.pairs is not None
    pairs = features.pairs
    row: Record = {}
    per_class: dict[str, PerClass] = {}
    queries = None
    for side, rows in (("train", features.train), ("test", features.test)):
        of_side = pair_space(head, documents, features, rows, right_documents(pairs, rows))
        space = geometry(of_side.both, features.labels[of_side.both_rows])
        per_class[side] = space.per_class
        row |= {f"{side}_{name}": value for name, value in geometry_columns(space).items()}
        if side == "test":
            of_pairs = spread_columns(of_side, pairs)
            row |= {f"test_{name}": value for name, value in of_pairs.items()}
    if with_retrieval:
        whole = pair_space(head, documents, features, features.test, pairs.corpus)
        found = judged(whole, pairs, RECALL_AT)
        row |= judged_columns(found)
        if with_queries:
            queries = judged_table(found.per_query, features, whole)
        if features.validation is not None:
            held = pair_space(head, documents, features, features.validation, pairs.corpus)
            columns = judged_columns(judged(held, pairs, RECALL_AT))
            row |= {f"validation_{name}": value for name, value in columns.items()}
    return Measurement(row, per_class, queries)


def geometry_columns(space: Geometry) -> Record:
    """Geometry as a flat row, with the smallest intra of a class; a number that is not defined is None."""
    smallest = float(space.per_class.intra.nan_to_num(torch.inf).min())
    columns = {name: _finite(getattr(space, name)) for name in GEOMETRY_COLUMNS}
    return {**columns, "smallest_class_intra": smallest}


def queries_of(
    head: nn.Module, features: FeatureSet, *, documents: nn.Module | None = None
) -> pa.Table:
    """A row for each query of the test side; `documents` as in `measure`."""
    if features.pairs is not None:
        corpus = features.pairs.corpus
        space = pair_space(head, documents or head, features, features.test, corpus)
        scores = judged(space, features.pairs, RECALL_AT)
        return judged_table(scores.per_query, features, space)
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
    centered_queries: pa.Table | None = None
    """The same of the centered raw model, of queries and documents."""


def references(features: FeatureSet, *, width: int) -> References:
    """The reference spaces, measured. `width` is that of the random vectors."""
    if features.pairs is not None:
        return _pair_references(features, width)
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


def _pair_references(features: FeatureSet, width: int) -> References:
    """The frozen features are the raw model: the same text embeddings without any head; and the same, each side minus its own mean."""
    assert features.pairs is not None
    pairs = features.pairs
    rows = torch.cat([features.test, pairs.corpus])
    numbers = torch.arange(len(rows))
    raw = norms_and_directions(features.features[rows])[1]
    documents = raw[len(features.test) :]
    # of the training queries: the mean of the test side would be known only after its queries were asked
    asked_mean = norms_and_directions(features.features[features.train])[1].mean(dim=0)
    centered = torch.cat(
        [raw[: len(features.test)] - asked_mean, documents - documents.mean(dim=0)]
    )
    made: dict[str, Tensor] = {
        FROZEN: raw,
        CENTERED: norms_and_directions(centered)[1],
        RANDOM: norms_and_directions(random_unit_vectors(numbers, width=width))[1],
        COLLAPSE: full_collapse(numbers, width=width).double(),
    }
    found: list[Record] = []
    queries: dict[str, pa.Table] = {}
    for name, unit in made.items():
        asked, corpus = unit[: len(features.test)], unit[len(features.test) :]
        whole = PairSpace(asked, features.test, corpus, pairs.corpus)
        near = right_documents(pairs, features.test)
        of_side = whole._replace(
            documents=corpus[torch.searchsorted(pairs.corpus, near)], document_rows=near
        )
        row = {"dataset": features.dataset, "reference": name}
        row |= geometry_columns(geometry(of_side.both, features.labels[of_side.both_rows]))
        if name != COLLAPSE:  # equal points have no order
            scores = judged(whole, pairs, RECALL_AT)
            row |= {**spread_columns(of_side, pairs), **judged_columns(scores)}
            if name in (FROZEN, CENTERED):
                queries[name] = judged_table(scores.per_query, features, whole)
        found.append(row)
    return References(found, queries[FROZEN], queries[CENTERED])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
