"""Chooses, measures and writes the examples of a dataset, once its runs have ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from lossgauge.errors import CacheError, DataError
from lossgauge.plan.study import Plan
from lossgauge.portable import portable
from lossgauge.results.examples import read_examples, table_of
from lossgauge.results.view import StudyView
from lossgauge.results.writer import Store
from lossgauge.study.examples.chosen_queries import ChosenQuery, chosen_queries
from lossgauge.study.examples.measured import answers_of, class_means_of, map_of, nearest_of_each
from lossgauge.study.examples.row_source import ImageRows, RowSource, row_source
from lossgauge.study.examples.spaces import shown_losses, spaces
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
    answers, misses = answers_of(view, view.files, features.dataset, runs)
    # a place among the losses is one less than that among the spaces, of which the first is frozen
    chosen = [
        one
        if one.right is None or one.wrong is None
        else one._replace(right=one.right + 1, wrong=one.wrong + 1)
        for one in chosen_queries(answers)
    ]
    neighbors = nearest_of_each(features, of_spaces, chosen)
    positions, shares, map_rows = map_of(features, of_spaces)
    classes, cosines = class_means_of(features, of_spaces, misses)
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
