"""A user's own texts with labels: `texts:PATH`, a .csv, .parquet or .jsonl file `text,label[,split][,id][,group]`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lossgauge.data.row_checks import checked_rows
from lossgauge.data.splits import choose_split
from lossgauge.data.text_tables import checked_texts, read_table
from lossgauge.errors import DataError, nearest
from lossgauge.types import TEXTS, ImageSet, Text

COLUMNS = ("text", "label", "split", "id", "group")


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
            raise DataError(f"{path} must have the columns text and label; {name} is missing")
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
    if repeated := len(texts) - len(set(texts)):
        notes += (f"{repeated:,} of {len(texts):,} texts repeat another text",)
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
