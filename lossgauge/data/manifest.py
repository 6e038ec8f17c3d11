"""A manifest: a .csv or .parquet file with a row per image, `path,label[,split][,id][,group]`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lossgauge.data.array_files import list_rows
from lossgauge.data.locations import not_utf_8, reason_of, regular
from lossgauge.data.row_checks import check_names_once
from lossgauge.errors import DataError, nearest

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "label", "split", "id", "group")

Columns = dict[str, list[object]]
Where = Callable[[int], str]
"""Says where a row is, for errors: `list.csv, line 7`."""


def read_manifest(path: Path) -> tuple[Columns, Where]:
    """The columns of a manifest. Raises DataError for an unknown, missing or repeated column."""
    if path.suffix.lower() == ".csv":
        columns, where = read_csv(path)
    else:
        columns, where = read_parquet(path, COLUMNS.__contains__)
    for name in columns:
        if name not in COLUMNS:
            raise DataError(
                f"{path} has an unknown column {name!r}{separator_fix(columns) or nearest(name, COLUMNS)}"
            )
    for name in ("path", "label"):
        if name not in columns:
            raise DataError(f"{path} must have the columns path and label; {name} is missing")
    return columns, where


def separator_fix(columns: Iterable[str]) -> str | None:
    """What to do where all columns were read as one, because commas do not separate them."""
    name, *more = columns
    for separator, words in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if not more and separator in name:
            return f": its columns are separated by {words}, save it with commas"
    return None


def read_csv(path: Path) -> tuple[Columns, Where]:
    """All columns of a CSV file with a header, as text. Raises DataError with the file or the line."""
    rows: list[list[str]] = []
    lines: list[int] = []
    begins = 1
    try:
        # -sig: spreadsheets write a byte order mark first
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                begins = reader.line_num + 1
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except UnicodeDecodeError:
        raise DataError(not_utf_8(path)) from None
    except csv.Error as error:
        raise DataError(
            f"the row of {path} that begins in line {begins} cannot be read as CSV: {reason_of(error)}; close each quote, and write a "
            'quote inside quotes as ""'
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from None
    if not rows:
        raise DataError(f"{path} is empty: it has no header with the names of its columns")
    header, body = rows[0], rows[1:]
    check_names_once(path, header)
    for row, line in zip(body, lines[1:], strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}, must have {len(header)} entries, as many as the header, got {len(row)}"
                f"{separator_fix(header) or ': put text with a comma in quotes'}"
            )
    columns: Columns = {name: [row[place] for row in body] for place, name in enumerate(header)}
    return columns, lambda row: f"{path}, line {lines[row + 1]}"


def read_parquet(path: Path, wanted: Callable[[str], bool]) -> tuple[Columns, Where]:
    """The wanted columns of a Parquet file; the others are empty. Raises DataError with the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(regular(path))
        names = file.schema_arrow.names
        check_names_once(path, names)
        table = file.read(columns=[name for name in names if wanted(name)])
        known = {name: _cells(table[name], path, name) for name in table.column_names}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error)}") from None
    columns: Columns = {name: known.get(name, []) for name in names}
    return columns, lambda row: f"{path}, row {row}"


def _cells(column: Any, path: Path, name: str) -> list[object]:
    """The cells of a column; a list of floats as an array, which needs a tenth of the memory."""
    import pyarrow as pa

    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if (is_list or pa.types.is_fixed_size_list(kind)) and pa.types.is_floating(kind.value_type):
        return [*list_rows(column, path, name)] if not column.null_count else column.to_pylist()
    cells: list[object] = column.to_pylist()
    return cells
