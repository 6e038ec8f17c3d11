"""Chooses, measures and writes the examples of a dataset, once its runs have ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lossgauge.errors import CacheError, DataError
from lossgauge.plan.study import Plan
from lossgauge.portable import portable
from lossgauge.results.examples import POSITION_UNIT, read_examples, table_of
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import Loss, StudyView
from lossgauge.results.writer import Store
from lossgauge.study.examples.chosen_queries import Answers, ChosenQuery, chosen_queries
from lossgauge.study.examples.class_means import class_mean_cosines, most_confused, side_by_side
from lossgauge.study.examples.embedding_map import class_balanced, embedding_map, turned_to_fit
from lossgauge.study.examples.row_source import ImageRows, RowSource, row_source
from lossgauge.study.examples.spaces import Space, nearest_rows, shown_losses, spaces
from lossgauge.study.examples.thumbnails import MOST, thumbnail
from lossgauge.types import FeatureSet, Record

VERSION = 1
"""Of what is written: a larger one is written again."""

LONGEST_NAME = 300
"""Characters of a class name or id that are kept."""


def write_examples(
    plan: Plan, view: StudyView, features: FeatureSet, images: ImageRows | None, store: Store
) -> list[str]:
    """Write what a page shows of a dataset, unless it is there already. Returns one line for each image left out.

    Nothing is written if no loss has finished a run. Takes about a second for 10,000 test rows and seven losses. Raises
    CacheError for damaged heads, and DiskError if the disk refuses.
    """
    shown = shown_losses(view, features.dataset)
    if shown is None or view.files is None:
        return []
    seed, runs = shown
    key = _key(plan, features, [str(row["run"]) for row in runs.values()], view)
    if _is_written(store, features.dataset, key):
        return []
    source = row_source(plan, features, images)
    of_spaces = list(spaces(store.layout, features, runs, view.files.configs))
    answers, misses = _answers(view, view.files, features.dataset, runs)
    # a place among the losses is one less than that among the spaces, of which the first is frozen
    chosen = [
        one
        if one.right is None or one.wrong is None
        else one._replace(right=one.right + 1, wrong=one.wrong + 1)
        for one in chosen_queries(answers)
    ]
    neighbors = _neighbors(features, of_spaces, chosen)
    positions, shares, map_rows = _map(features, of_spaces)
    classes, cosines = _class_means(features, of_spaces, misses)
    pictured = _pictured(chosen, neighbors)
    pictures, left_out = _thumbnails(plan, source, pictured)
    test = features.test.tolist()
    ids = {row: source.id_of(row)[:LONGEST_NAME] for row in {*pictured, *map_rows}}
    labels = features.labels[features.test].numpy()
    record = {
        "dataset": features.dataset,
        "key": key,
        "images": plan.images if source.picture else "absent",
        "seed": seed,
        "spaces": [
            {"name": of.name, "run": of.run, "epochs": list(of.heads), "shares": of_epochs}
            for of, of_epochs in zip(of_spaces, shares, strict=True)
        ],
        "class_names": {
            str(label): features.class_names[label][:LONGEST_NAME]
            for label in np.unique(labels).tolist()
            if label in features.class_names
        },
        "classes": classes,
        "class_count": len(np.unique(labels)),
        "left_out": left_out,
    }
    store.write_examples(
        features.dataset,
        records={"record": record, "thumbnails": {"images": pictures}},
        tables={
            "rows": table_of(
                "rows",
                [
                    {"row": row, "label": label, "id": ids.get(row)}
                    for row, label in zip(test, labels.tolist(), strict=True)
                ],
            ),
            "queries": table_of("queries", [one._asdict() for one in chosen]),
            "neighbors": table_of("neighbors", neighbors),
            "positions": table_of("positions", positions),
            "cosines": table_of("cosines", cosines),
        },
    )
    return [f"{one['id']} has no picture on the page: {one['reason']}" for one in left_out]


def _key(plan: Plan, features: FeatureSet, runs: list[str], view: StudyView) -> str:
    """Of everything that the examples depend on."""
    every = [
        str(row["run"])
        for loss in view.losses
        for row in view.runs(features.dataset, loss).values()
    ]
    depends_on = [VERSION, features.fingerprint, dict(features.identity), plan.images, runs, every]
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def _is_written(store: Store, dataset: str, key: str) -> bool:
    try:
        written = read_examples(store.layout, dataset)
    except CacheError:
        return False  # damaged: it is written again
    return written is not None and written.about.key == key


class _Misses(NamedTuple):
    """Queries of all runs whose nearest row has another class."""

    label: np.ndarray
    nearest: np.ndarray
    """A row of the dataset."""


def _answers(
    view: StudyView, files: RunFiles, dataset: str, runs: dict[Loss, Record]
) -> tuple[Answers, _Misses]:
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
    return answers, _Misses(np.concatenate(labels), np.concatenate(nearest))


def _neighbors(
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


def _map(
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


def _class_means(
    features: FeatureSet, of_spaces: Sequence[Space], misses: _Misses
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


def _pictured(chosen: Sequence[ChosenQuery], neighbors: Sequence[Record]) -> list[int]:
    """Rows that the page shows, in the order in which they get a picture: queries, then the neighbors of each."""
    of_query: dict[int, list[Record]] = {}
    for one in neighbors:
        of_query.setdefault(one["query"], []).append(one)
    rows = dict.fromkeys(one.query for one in chosen)
    for query in list(rows):
        rows |= dict.fromkeys(one["row"] for one in of_query[query])
    return list(rows)


def _thumbnails(
    plan: Plan, source: RowSource, rows: Sequence[int]
) -> tuple[dict[str, Record], list[Record]]:
    """Row → its picture, and the images that cannot be read now."""
    if plan.images == "none" or source.picture is None:
        return {}, []
    pictures: dict[str, Record] = {}
    left_out: list[Record] = []
    for row in rows[:MOST]:
        try:
            pictures[str(row)] = thumbnail(source.picture(row))
        except (DataError, OSError) as error:
            reason = portable(str(error))[:LONGEST_NAME]
            left_out.append({"id": source.id_of(row)[:LONGEST_NAME], "reason": reason})
    return pictures, left_out
