"""The content of the section "Your data" as data for its script: classes, cards of queries, the map, the heat map.

Names and ids are cut and made visible here; the script puts them into the page as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lossgauge.report.class_table import ClassRow
from lossgauge.report.figures import class_distances, embedding_map
from lossgauge.report.naming import cut
from lossgauge.results.examples import DISAGREEMENT, HARDEST, ORDINARY, Examples
from lossgauge.results.view import Loss
from lossgauge.terminal import safe
from lossgauge.types import Record

MOST_CLASSES = 1_000
"""Classes in a table of the page: those with the lowest AP@R of the best loss."""

LONGEST = 120
"""Characters of a name or id on the page."""


class ShownSpace(NamedTuple):
    """A space that the reader can choose."""

    loss: Loss | None
    """None is the frozen features."""
    space: int | None
    """Its place in the examples; None if they do not have it."""


def classes_shown(rows: list[ClassRow], examples: Examples | None) -> list[int]:
    """The labels in the table, ascending: all, or those of the map, the heat map and the lowest AP@R."""
    if len(rows) <= MOST_CLASSES:
        return [row.label for row in rows]
    hardest = sorted(rows, key=lambda row: (1.0 if row.ap_at_r is None else row.ap_at_r, row.label))
    needed = dict.fromkeys(examples.about.classes if examples is not None else ())
    kept = [*needed, *(row.label for row in hardest if row.label not in needed)][:MOST_CLASSES]
    return sorted(kept)


def class_names(labels: Iterable[int], examples: Examples | None) -> list[str]:
    names: Mapping[str, str] = examples.about.class_names if examples is not None else {}
    return [plain(names.get(str(label), str(label))) for label in labels]


def table_columns(rows: list[ClassRow], place: Mapping[int, int]) -> Record:
    """The columns of a table of classes; classes are places in the list of names."""
    of = [row for row in rows if row.label in place]
    return {
        "recall": [_rounded(row.recall_at_1) for row in of],
        "ap": [_rounded(row.ap_at_r) for row in of],
        "intra": [_rounded(row.intra) for row in of],
        "nearest": [None if row.nearest is None else place.get(row.nearest) for row in of],
        "confused": [
            [[place[other], _rounded(share)] for other, share in row.confused if other in place]
            for row in of
        ],
    }


def examples_content(
    examples: Examples,
    shown: list[ShownSpace],
    place: Mapping[int, int],
) -> Record:
    """The rows, the cards, the map and the heat map."""
    rows = {
        row: (label, name)
        for row, label, name in zip(
            *(examples.rows[column].to_pylist() for column in ("row", "label", "id")), strict=True
        )
        if name is not None
    }
    number = {row: at for at, row in enumerate(rows)}
    extra = sorted({label for label, _ in rows.values()} - place.keys())
    at = {**place, **{label: len(place) + more for more, label in enumerate(extra)}}
    of_spaces = [space for _, space in shown if space is not None]
    flat = class_distances.class_distances(examples)[of_spaces]
    coded = embedding_map.positions(examples)
    return {
        "more_classes": class_names(extra, examples),
        "ids": [plain(name) for _, name in rows.values()],
        "row_classes": [at[label] for label, _ in rows.values()],
        "thumbnails": {
            str(number[int(row)]): [picture.type, picture.data]
            for row, picture in examples.thumbnails.items()
        },
        "cards": _cards(examples, of_spaces, number),
        "map": {
            **embedding_map.style(examples),
            "rows": [number[row] for row in embedding_map.map_rows(examples)],
            "panels": [
                {
                    "epochs": examples.about.spaces[space].epochs,
                    "shares": [_rounded(share) for share in examples.about.spaces[space].shares],
                    "positions": coded[space],
                }
                for space in of_spaces
            ],
        },
        "heat": {
            "layout": class_distances.layout(examples),
            "classes": [at[label] for label in examples.about.classes if label in at],
            "values": [
                [[_rounded(value) for value in line] for line in of.tolist()] for of in flat
            ],
        },
    }


def _cards(
    examples: Examples,
    of_spaces: list[int],
    number: Mapping[int, int],
) -> dict[str, list[Record]]:
    """Of each kind, the queries with their nearest rows in each space."""
    nearest: dict[tuple[int, int], list[int]] = {}
    for one in examples.neighbors.sort_by([("rank", "ascending")]).to_pylist():
        nearest.setdefault((one["space"], one["query"]), []).append(number[one["row"]])
    shown_as = {space: at for at, space in enumerate(of_spaces)}
    cards: dict[str, list[Record]] = {HARDEST: [], DISAGREEMENT: [], ORDINARY: []}
    for one in examples.queries.to_pylist():
        right, wrong = shown_as.get(one["right"]), shown_as.get(one["wrong"])
        is_pair = one["kind"] == DISAGREEMENT
        if one["kind"] not in cards or (is_pair and None in (right, wrong)):
            continue
        card: dict[str, Any] = {
            "query": number[one["query"]],
            "nearest": [nearest.get((space, one["query"]), []) for space in of_spaces],
        }
        cards[one["kind"]].append({**card, "right": right, "wrong": wrong} if is_pair else card)
    return cards


def plain(text: str) -> str:
    """A name as the page shows it: no control or format characters, at most LONGEST characters."""
    return safe(cut(text, LONGEST))


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
