"""The section "Your data": retrieval pictures, a map, classes and their distances, for each dataset.

Its content is data for a script of the page; names and ids are put into the page as text, never as HTML.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from lossgauge.diagnostics.references import FROZEN
from lossgauge.errors import CacheError
from lossgauge.report.class_table import RowLabels, class_rows
from lossgauge.report.embed_json import embed_json
from lossgauge.report.figures import embedding_map
from lossgauge.report.naming import GREY, color_of, short_name
from lossgauge.report.your_data_content import (
    ShownSpace,
    class_names,
    classes_shown,
    examples_content,
    plain,
    table_columns,
)
from lossgauge.results.examples import Examples
from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import StudyView
from lossgauge.stats.number_format import counted
from lossgauge.types import Record


class DataSection(NamedTuple):
    """What the page shows of one dataset's rows."""

    dataset: str
    id: str
    facts: tuple[str, ...]
    """What was recorded and what was not, one sentence each."""
    has_pictures: bool
    """Whether some of its rows are shown as pictures."""
    has_examples: bool
    seed: int
    """Of the runs whose neighbors and map are shown."""
    losses: tuple[tuple[int, str], ...]
    """What the reader chooses from: place and name."""
    chosen: int
    epochs: tuple[int, ...]
    """Of the map."""
    map_rows: int
    heat_note: str
    class_count: int
    content: Markup


def your_data(view: StudyView) -> list[DataSection]:
    """One section for each dataset with a finished run; none if the study was not read from a folder."""
    if view.files is None or view.of_pairs:  # queries and documents have no classes to show
        return []
    sections = (_section(view, view.files, dataset) for dataset in view.datasets)
    return [section for section in sections if section is not None]


def _section(view: StudyView, files: RunFiles, dataset: str) -> DataSection | None:
    examples, damage = _examples(view, files, dataset)
    shown = _spaces(view, dataset, examples)
    labels = _labels(view, files, dataset, examples)
    if labels is None or not any(one.loss for one in shown):
        return None
    tables = [class_rows(view, files, dataset, one.loss, labels) for one in shown]
    chosen = _best(view, dataset, shown)
    shown_labels = classes_shown(tables[chosen], examples)
    place = {label: at for at, label in enumerate(shown_labels)}
    names = class_names(shown_labels, examples)
    content: Record = {
        "dataset": plain(dataset),
        "classes": names,
        "spaces": [
            {
                "name": plain(FROZEN if one.loss is None else short_name(one.loss, view.losses)),
                "color": GREY if one.loss is None else color_of(one.loss, view.losses),
                "table": table_columns(rows, place),
            }
            for one, rows in zip(shown, tables, strict=True)
        ],
        "sizes": [row.size for row in tables[chosen] if row.label in place],
    }
    class_count = len(tables[chosen])
    if examples is not None:
        content |= examples_content(examples, shown, place)
    epochs = sorted(
        {
            epoch
            for space in (examples.about.spaces if examples else ())
            if space.run is not None  # the frozen features have no epochs
            for epoch in space.epochs
        }
    )
    number = view.datasets.index(dataset) + 1
    return DataSection(
        dataset=dataset,
        id=f"data-{number}",
        facts=tuple(_facts(view, examples, damage, class_count, len(shown_labels))),
        has_pictures=bool(examples and examples.thumbnails),
        has_examples=examples is not None,
        seed=examples.about.seed if examples else 0,
        losses=tuple(
            (at, FROZEN if one.loss is None else short_name(one.loss, view.losses))
            for at, one in enumerate(shown)
        ),
        chosen=chosen,
        epochs=tuple(epochs),
        map_rows=len(embedding_map.map_rows(examples)) if examples else 0,
        heat_note=_heat_note(examples),
        class_count=class_count,
        content=embed_json(content),
    )


def _examples(
    view: StudyView, files: RunFiles, dataset: str
) -> tuple[Examples | None, CacheError | None]:
    try:
        return files.examples(dataset), None
    except CacheError as error:
        return None, error


def _spaces(view: StudyView, dataset: str, examples: Examples | None) -> list[ShownSpace]:
    """The frozen features, then the losses that have run."""
    of_run = {
        str(row["run"]): loss for loss in view.losses for row in view.runs(dataset, loss).values()
    }
    if examples is not None:
        return [
            ShownSpace(None if space.run is None else of_run[space.run], at)
            for at, space in enumerate(examples.about.spaces)
            if space.run is None or space.run in of_run
        ]
    losses = [loss for loss in view.losses if view.runs(dataset, loss)]
    return [ShownSpace(None, None), *(ShownSpace(loss, None) for loss in losses)]


def _labels(
    view: StudyView, files: RunFiles, dataset: str, examples: Examples | None
) -> RowLabels | None:
    """Of all rows of the test side; without examples, of those that are queries."""
    if examples is not None:
        rows, labels = (examples.rows[name].to_numpy() for name in ("row", "label"))
    else:
        runs = [row for loss in view.losses for row in view.runs(dataset, loss).values()]
        run = next((row for row in runs if files.has_queries(row)), None)
        if run is None:
            return None
        table = files.queries_of(run, ["query", "label"])
        rows, labels = (table[name].to_numpy() for name in ("query", "label"))
    order = np.argsort(rows)
    return RowLabels(rows[order], labels[order])


def _best(view: StudyView, dataset: str, shown: list[ShownSpace]) -> int:
    """The loss with the highest mean MAP@R: it is chosen at first."""

    def mean(at: int) -> float:
        loss = shown[at].loss
        of = None if loss is None else view.interval(dataset, loss, "map_at_r")
        return -math.inf if of is None else of.mean

    return max(range(len(shown)), key=mean)


def _facts(
    view: StudyView, examples: Examples | None, damage: CacheError | None, classes: int, shown: int
) -> Iterable[str]:
    if examples is not None:
        yield from _about_pictures(examples)
    elif damage is None and view.results.waiting:
        yield "Pictures, map and class distances are added when all runs have ended."
    else:
        why = "were not recorded" if damage is None else "cannot be read, because a file is damaged"
        yield (
            f"Pictures, map and class distances {why}. Run the same lossgauge study command again: no finished run is repeated."
        )
    if shown < classes:
        yield f"The table has {shown:,} of {classes:,} classes: those of the heat map, then the lowest AP@R."


def _about_pictures(examples: Examples) -> Iterable[str]:
    about = examples.about
    if examples.thumbnails:
        size = sum(len(picture.data) for picture in examples.thumbnails.values())
        pictures = counted(len(examples.thumbnails), "small picture")
        yield (
            f"This page holds {pictures} of your data ({max(1, round(size / 1000)):,} kB): think before you share it. "
            "“images: none” in the study file leaves them out."
        )
    elif about.images == "none":
        yield "The study file asks for no pictures (“images: none”): rows are shown by their ids."
    elif about.images == "absent":
        yield "The rows are embeddings, so they are shown by their ids."
    if about.left_out:
        names = ", ".join(one.id for one in about.left_out[:3])
        more = f" and {len(about.left_out) - 3} more" if len(about.left_out) > 3 else ""
        yield f"Without a picture, because the image cannot be read: {names}{more}."


def _heat_note(examples: Examples | None) -> str:
    if examples is None:
        return ""
    about = examples.about
    if len(about.classes) < about.class_count:
        return f"The {len(about.classes)} of {about.class_count:,} classes that are confused most often, similar ones side by side."
    return "Similar classes are side by side."
