"""The classes of a dataset under one loss: retrieval, spread, the nearest class, and what they are confused with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int

from lossgauge.diagnostics.references import FROZEN
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import Loss, StudyView
from lossgauge.types import Record

MOST_CONFUSED = 3
"""Other classes that are named for each class."""


class Confusion(NamedTuple):
    """The class of wrong nearest rows."""

    label: int
    share: float
    """Of the queries of the class, over all seeds, in (0, 1]."""


class ClassRow(NamedTuple):
    """One class of the test side. Means are over the seeds of the loss."""

    label: int
    size: int
    recall_at_1: float | None
    """None without a query: the class has a single row."""
    ap_at_r: float | None
    intra: float | None
    """None for a single row, and for the frozen features, which do not keep it."""
    nearest: int | None
    """The class whose mean is nearest, with the first seed."""
    confused: tuple[Confusion, ...]
    """The classes of wrong nearest rows, the most frequent first; empty if every nearest row is right."""


class RowLabels(NamedTuple):
    """The class of each row of the test side."""

    row: Int[np.ndarray, " rows"]
    """Ascending."""
    label: Int[np.ndarray, " rows"]

    def of(self, rows: Int[np.ndarray, " some"]) -> tuple[np.ndarray, np.ndarray]:
        """The labels of some rows, and which of them are known."""
        place = np.searchsorted(self.row, rows).clip(max=max(0, len(self.row) - 1))
        return self.label[place], self.row[place] == rows


def class_rows(
    view: StudyView, files: RunFiles, dataset: str, loss: Loss | None, labels: RowLabels
) -> list[ClassRow]:
    """One row for each class of the test side, by label; without a loss, those of the frozen features."""
    if loss is None:
        reference = {"dataset": dataset, "reference": FROZEN}
        tables = [files.frozen_queries(dataset)] if files.has_queries(reference) else []
        spreads: list[list[Record]] = []
    else:
        runs = [str(row["run"]) for _, row in sorted(view.runs(dataset, loss).items())]
        tables = [files.queries(run) for run in runs]
        spreads = [[row for row in files.classes(run) if row.get("side") == "test"] for run in runs]
    return rows_of_tables(tables, spreads, labels) if tables else []


def rows_of_tables(
    tables: Sequence[pa.Table], spreads: Sequence[Sequence[Record]], labels: RowLabels
) -> list[ClassRow]:
    """The same from the queries of each seed, and the rows of its classes."""
    classes, sizes = np.unique(labels.label, return_counts=True)
    answered = np.zeros(len(classes))
    hits, ap = np.zeros(len(classes)), np.zeros(len(classes))
    pairs: list[np.ndarray] = []
    for table in tables:
        place = np.searchsorted(classes, table["label"].to_numpy())
        hit = table["hit_at_1"].to_numpy(zero_copy_only=False)
        answered += np.bincount(place, minlength=len(classes))
        hits += np.bincount(place, weights=hit, minlength=len(classes))
        ap += np.bincount(place, weights=table["ap_at_r"].to_numpy(), minlength=len(classes))
        other, known = labels.of(table["nearest_wrong"].to_numpy())
        missed = ~hit & known
        pairs.append(np.column_stack([place[missed], np.searchsorted(classes, other[missed])]))
    confused = _confusions(np.concatenate(pairs), classes, answered)
    intra = _spread(spreads, classes)
    nearest = {int(row["label"]): row.get("nearest") for row in (spreads[0] if spreads else ())}
    return [
        ClassRow(
            label=int(label),
            size=int(sizes[at]),
            recall_at_1=float(hits[at] / answered[at]) if answered[at] else None,
            ap_at_r=float(ap[at] / answered[at]) if answered[at] else None,
            intra=intra[at],
            nearest=nearest.get(int(label)),
            confused=confused.get(at, ()),
        )
        for at, label in enumerate(classes.tolist())
    ]


def _confusions(
    pairs: Int[np.ndarray, "misses 2"],
    classes: Int[np.ndarray, " classes"],
    answered: Float64[np.ndarray, " classes"],
) -> dict[int, tuple[Confusion, ...]]:
    """Place of a class → the classes of its wrong nearest rows, by count, then by label."""
    unique, counts = np.unique(pairs.astype(np.int64), axis=0, return_counts=True)
    found: dict[int, tuple[Confusion, ...]] = {}
    for at in np.argsort(-counts, kind="stable").tolist():
        place, other = unique[at].tolist()
        before = found.get(place, ())
        if len(before) < MOST_CONFUSED:
            share = float(counts[at] / answered[place])
            found[place] = (*before, Confusion(int(classes[other]), share))
    return found


def _spread(
    spreads: Sequence[Sequence[Record]], classes: Int[np.ndarray, " classes"]
) -> list[float | None]:
    """The mean of intra over the seeds; None if a seed does not have it."""
    values = [{int(row["label"]): row.get("intra") for row in rows} for rows in spreads]
    means: list[float | None] = []
    for label in classes.tolist():
        of_class = [of.get(label) for of in values]
        known = [value for value in of_class if value is not None]
        means.append(sum(known) / len(known) if known and len(known) == len(values) else None)
    return means
