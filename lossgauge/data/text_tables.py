"""A user's table of texts: a .csv, .parquet or .jsonl file with one row for each example."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lossgauge.data.locations import not_utf_8, reason_of, regular
from lossgauge.data.manifest import Columns, Where, read_csv, read_parquet, separator_fix
from lossgauge.data.row_checks import check_names_once
from lossgauge.errors import DataError
from lossgauge.stats.number_format import counted

SUFFIXES = (".csv", ".parquet", ".jsonl")
MOST_BYTES = 8 << 30
"""A larger file is refused: its texts are held in memory."""
MOST_CHARACTERS = 1_000_000
"""Of one text. A model reads some hundred words: a longer text is a whole book, or a file that was not split."""


def read_table(path: Path, wanted: Callable[[str], bool]) -> tuple[Columns, Where]:
    """The wanted columns of a table; the other columns are empty lists.

    Raises DataError with the file or the line for a damaged or too large file, for a column that appears twice, and for no rows.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} must be a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    size = regular(path).stat().st_size
    if size > MOST_BYTES:
        raise DataError(
            f"{path} must have at most {MOST_BYTES >> 30} GiB, got {size / 2**30:.1f}: use a part of it"
        )
    if suffix == ".jsonl":
        return _read_jsonl(path, wanted)
    columns, where = read_csv(path) if suffix == ".csv" else read_parquet(path, wanted)
    if not any(map(wanted, columns)) and (fix := separator_fix(columns)):
        raise DataError(f"{path} has one column, {next(iter(columns))!r}{fix}")
    if any(not column for name, column in columns.items() if wanted(name)):
        raise DataError(f"{path} has no rows: it has only the names of its columns")
    return {name: column if wanted(name) else [] for name, column in columns.items()}, where


def read_json_lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """The number of each line that is not blank, and its object. Raises DataError with the line."""
    number = 0
    try:
        with regular(path).open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"it is a {type(row).__name__}, not an object")
                    yield number, row
    except DataError:
        raise
    except UnicodeDecodeError:
        raise DataError(not_utf_8(path)) from None
    except json.JSONDecodeError as error:  # its own text counts lines inside the line
        raise DataError(
            f"{path}, line {number}, cannot be read as JSON: {error.msg} at character {error.colno}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number or 1}, cannot be read as JSON: {reason_of(error)}"
        ) from None


def _read_jsonl(path: Path, wanted: Callable[[str], bool]) -> tuple[Columns, Where]:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, row in read_json_lines(path):
        rows.append({name: entry if wanted(name) else None for name, entry in row.items()})
        lines.append(line)
    if not rows:
        raise DataError(f"{path} is empty: it has no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    check_names_once(path, names)
    columns: Columns = {
        name: [row.get(name) for row in rows] if wanted(name) else [] for name in names
    }
    return columns, lambda row: f"{path}, line {lines[row]}"


def checked_texts(entries: Sequence[object], name: str, where: Where) -> list[str]:
    """The texts of a column. Raises DataError for an entry that is no text, empty, too long, or not UTF-8."""
    empty = [row for row, entry in enumerate(entries) if entry is None or _is_blank(entry)]
    if empty:
        raise DataError(
            f"every row needs a text in {name}, but {where(empty[0])}, has an empty one ({len(empty):,} of "
            f"{counted(len(entries), 'row')} {'does' if len(empty) == 1 else 'do'}): fill it in, or remove the row"
        )
    texts = []
    for row, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise DataError(
                f"{name} must be text in every row, got {type(entry).__name__} in {where(row)}: write a text there; texts and numbers cannot be "
                "mixed"
            )
        check_text(entry, name, lambda row=row: where(row))  # type: ignore[misc]
        texts.append(entry)
    return texts


def same_words(text: str) -> str:
    """The text with single spaces between its words: two texts that differ only in white space are the same text."""
    return " ".join(text.split())


def check_text(text: str, name: str, where: Callable[[], str]) -> None:
    """DataError for a text that is too long, or cannot be written as UTF-8."""
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"{name} must have at most {MOST_CHARACTERS:,} characters, got {len(text):,} in {where()}: split the text"
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{name} must be valid UTF-8, but {where()} is not: rewrite it"
            ) from None


def _is_blank(entry: object) -> bool:
    """Empty text, or NaN, which pandas uses for a missing entry."""
    return not entry.strip() if isinstance(entry, str) else entry != entry
