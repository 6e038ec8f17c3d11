"""A user's own texts: `texts:PATH`, a .csv, .parquet or .jsonl file `text,label[,split][,id][,group]`, or without labels `text[,id]`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lossgauge.data.manifest import Where
from lossgauge.data.row_checks import checked_ids, checked_rows
from lossgauge.data.splits import choose_split
from lossgauge.data.text_tables import checked_texts, read_table, same_words
from lossgauge.errors import DataError, nearest
from lossgauge.stats.number_format import counted
from lossgauge.types import TEXTS, ImageSet, Text

COLUMNS = ("text", "label", "split", "id", "group")
UNLABELLED = ("text", "id", "_id")
NO_LABELS = "no split"
"""`protocol` of texts without labels."""


def load(path: Path, *, split: str | None = None, seed: int = 0) -> ImageSet:
    """The texts of a table, with the rules for splits of a folder of images; other columns are an error.

    The id of a text is that of the table, or its row number. Raises DataError with the file or the row, and the fix.
    """
    columns, where = read_table(path, COLUMNS.__contains__)
    for name in columns:
        if name not in COLUMNS:
            raise DataError(f"{path} has an unknown column {name!r}{nearest(name, COLUMNS)}")
    for name in ("text", "label"):
        if name not in columns:
            only = "; only `lossgauge embed` takes texts without labels" if name == "label" else ""
            raise DataError(f"{path} must have the columns text and label; {name} is missing{only}")
    texts = checked_texts(columns["text"], "text", where)
    rows = checked_rows(
        columns["label"],
        ids=columns.get("id"),
        sides=columns.get("split"),
        groups=columns.get("group"),
        where=where,
        source=str(path),
    )
    train, test, protocol = choose_split(
        rows.labels, rows.trains, split=split, seed=seed, source=str(path), groups=rows.groups
    )
    notes = rows.notes
    notes += repeated_note(texts, where)
    return ImageSet(
        name=f"texts:{path.name}",
        ids=rows.ids,
        labels=rows.labels,
        class_names=rows.class_names,
        train=train,
        test=test,
        protocol=protocol,
        source=f"{path} (table with the columns {', '.join(columns)})",
        digest=digest_of(texts),
        read=partial(read, texts, ""),
        notes=notes,
        groups=rows.groups,
        kind=TEXTS,
    )


def has_labels(path: Path) -> bool:
    """Whether a table has a column `label`. Raises DataError for a file that cannot be read."""
    return "label" in read_table(path, lambda name: name == "label")[0]


def load_unlabelled(path: Path) -> ImageSet:
    """The texts of a table without labels: embeddings can be computed for them; a study needs labels.

    The id of a text is that of the column `id` or `_id`, or its row number. All texts have the label 0, and all are on both sides of the split.
    Columns that are not read are noted. Raises DataError with the file or the row, and the fix.
    """
    columns, where = read_table(path, UNLABELLED.__contains__)
    others = [name for name in columns if name not in UNLABELLED]
    if "text" not in columns:
        hint = nearest("text", others)
        raise DataError(
            f"{path} must have the column text, got {', '.join(columns)}{hint if 'did you mean' in hint else ''}: rename the column"
        )
    if "id" in columns and "_id" in columns:
        raise DataError(f"{path} must have one column of ids, got id and _id: remove one")
    texts = checked_texts(columns["text"], "text", where)
    given = columns.get("id", columns.get("_id"))
    ids = tuple(map(str, range(len(texts)))) if given is None else checked_ids(given, where)
    notes = repeated_note(texts, where)
    if others:
        notes += (f"columns of {path} that are not read: {', '.join(others)}",)
    every = np.arange(len(texts))
    return ImageSet(
        name=f"texts:{path.name}",
        ids=ids,
        labels=np.zeros(len(texts), np.int64),
        class_names={},
        train=every,
        test=every,
        protocol=NO_LABELS,
        source=f"{path} (texts without labels)",
        digest=digest_of(texts),
        read=partial(read, texts, ""),
        notes=notes,
        kind=TEXTS,
    )


def repeated_note(texts: Sequence[str], where: Where) -> tuple[str, ...]:
    """One line if a text is that of an earlier row, also with other white space."""
    first: dict[str, int] = {}
    repeated = [
        row for row, text in enumerate(texts) if first.setdefault(same_words(text), row) < row
    ]
    if not repeated:
        return ()
    verb = "repeats" if len(repeated) == 1 else "repeat"
    return (
        f"{len(repeated):,} of {counted(len(texts), 'text')} {verb} an earlier one: the first is {where(repeated[0])}",
    )


def read(texts: Sequence[str], side: str, row: int) -> Text:
    """The text of a row, all of one side."""
    return Text(texts[row], side)


def read_side(texts: Sequence[str], query_count: int, row: int) -> Text:
    """The text of a row, where the queries come before the documents."""
    return Text(texts[row], "query" if row < query_count else "document")


def digest_of(texts: Sequence[str], *more: str) -> str:
    """SHA-256 over texts and what else decides their features; features depend on nothing else of a table."""
    digest = hashlib.sha256()
    for words in (*more, *texts):
        digest.update(json.dumps(words).encode() + b"\n")
    return digest.hexdigest()
