"""What the examples of a dataset hold, measured: answers of all runs, nearest rows, a map, class means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from lossgauge.results.examples import POSITION_UNIT
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import Loss, StudyView
from lossgauge.study.examples.chosen_queries import Answers, ChosenQuery
from lossgauge.study.examples.class_means import class_mean_cosines, most_confused, side_by_side
from lossgauge.study.examples.embedding_map import class_balanced, embedding_map, turned_to_fit
from lossgauge.study.examples.spaces import Space, nearest_rows
from lossgauge.types import FeatureSet, Record


class Misses(NamedTuple):
    """Queries of all runs whose nearest row has another class."""

    label: np.ndarray
    nearest: np.ndarray
    """A row of the dataset."""


def answers_of(
    view: StudyView, files: RunFiles, dataset: str, runs: Mapping[Loss, Record]
) -> tuple[Answers, Misses]:
    query: np.ndarray = np.empty(0, dtype=np.int64)
    columns: dict[str, list[np.ndarray]] = {"ap_at_r": [], "hit_share": [], "hit": []}
    labels, nearest = [], []
    for loss, shown in runs.items():
        ap, hits = [], []
        for row in view.runs(dataset, loss).values():
            table = files.queries(str(row["run"]))
            query = table["query"].to_numpy()
            ap.append(table["ap_at_r"].to_numpy())
            hits.append(table["hit_at_1"].to_numpy())
            labels.append(table["label"].to_numpy()[~hits[-1]])
            nearest.append(table["nearest_wrong"].to_numpy()[~hits[-1]])
            if row["run"] == shown["run"]:
                columns["hit"].append(hits[-1])
        columns["ap_at_r"].append(np.mean(ap, axis=0))
        columns["hit_share"].append(np.mean(hits, axis=0))
    answers = Answers(query, **{name: np.stack(parts) for name, parts in columns.items()})
    return answers, Misses(np.concatenate(labels), np.concatenate(nearest))


def nearest_of_each(
    features: FeatureSet, of_spaces: Sequence[Space], chosen: Sequence[ChosenQuery]
) -> list[Record]:
    """A row for each space, query that is shown with it, and rank: of a disagreement, those of its two losses."""
    test, labels = features.test, features.labels
    rows: list[Record] = []
    for number, space in enumerate(of_spaces):
        queries = sorted(
            {one.query for one in chosen if one.right is None or number in (one.right, one.wrong)}
        )
        if not queries:
            continue
        places = torch.searchsorted(test, torch.tensor(queries))
        directions = space.directions(features, test)
        nearest = nearest_rows(directions, places)
        for query, place, found in zip(queries, places.tolist(), nearest.tolist(), strict=True):
            rows += [
                {
                    "space": number,
                    "query": query,
                    "rank": rank,
                    "row": int(test[other]),
                    "is_right": bool(labels[test[other]] == labels[query]),
                    "similarity": float(directions[place] @ directions[other]),
                }
                for rank, other in enumerate(found, start=1)
            ]
    return rows


def map_of(
    features: FeatureSet, of_spaces: Sequence[Space]
) -> tuple[list[Record], list[list[float | None]], list[int]]:
    """Positions, the share of variance of each space and epoch, and the rows of the map."""
    labels = features.labels[features.test].numpy()
    rows = features.test[torch.tensor(class_balanced(labels))]
    found: list[Record] = []
    shares: list[list[float | None]] = []
    target: np.ndarray | None = None
    for number, space in enumerate(of_spaces):
        embedded = [space.directions(features, rows, epoch).numpy() for epoch in space.heads]
        of_space = embedding_map(np.stack(embedded))
        positions = of_space.positions
        if target is not None:
            positions = turned_to_fit(positions, target)
        else:
            target = positions[-1]
        whole = np.clip(np.rint(positions * POSITION_UNIT), -(2**15), 2**15 - 1).astype(np.int64)
        shares.append(of_space.shares)
        for epoch, of_epoch in zip(space.heads, whole.tolist(), strict=True):
            found += [
                {"space": number, "epoch": epoch, "row": row, "x": x, "y": y}
                for row, (x, y) in zip(rows.tolist(), of_epoch, strict=True)
            ]
    return found, shares, rows.tolist()


def class_means_of(
    features: FeatureSet, of_spaces: Sequence[Space], misses: Misses
) -> tuple[list[int], list[Record]]:
    """The classes of the heat map in its order, and the cosines of their means in each space."""
    labels = features.labels[features.test].numpy()
    missed = features.labels[torch.from_numpy(misses.nearest.astype(np.int64))].numpy()
    classes = most_confused(np.unique(labels), misses.label, missed)
    of_classes = features.test[torch.from_numpy(np.isin(labels, classes))]
    matrices = [
        class_mean_cosines(
            space.directions(features, of_classes).numpy(),
            features.labels[of_classes].numpy(),
            classes,
        )
        for space in of_spaces
    ]
    order = side_by_side(matrices)
    rows: list[Record] = []
    for number, matrix in enumerate(matrices):
        for place, one in enumerate(order):
            rows += [
                {
                    "space": number,
                    "label": classes[one],
                    "other": classes[other],
                    "cosine": float(matrix[one, other]),
                }
                for other in order[:place]
                if not np.isnan(matrix[one, other])
            ]
    return [classes[place] for place in order], rows
