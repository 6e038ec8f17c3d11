"""A manifest: a .csv or .parquet file with a row per image, `path,label[,split][,id][,group]`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

from lossgauge.data.locations import reason_of, regular
from lossgauge.data.row_checks import check_names_once
from lossgauge.errors import DataError, nearest

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "label", "split", "id", "group")

Columns = dict[str, list[object]]
Where = Callable[[int], str]
"""Says where a row is, for errors: `list.csv, line 7`."""


def read_manifest(path: Path) -> tuple[Columns, Where]:
    """The columns of a manifest. Raises DataError for an unknown, missing or repeated column."""
    columns, where = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    for name in columns:
        if name not in COLUMNS:
            raise DataError(
                f"{path} has an unknown column {name!r}{_separator(columns) or nearest(name, COLUMNS)}"
            )
    for name in ("path", "label"):
        if name not in columns:
            raise DataError(f"{path} must have the columns path and label; {name} is missing")
    return columns, where


def _separator(columns: Iterable[str]) -> str | None:
    """What to do where all columns were read as one, because commas do not separate them."""
    name, *more = columns
    for separator, words in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if not more and separator in name:
            return f": its columns are separated by {words}, save it with commas"
    return None


def _read_csv(path: Path) -> tuple[Columns, Where]:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        # -sig: spreadsheets write a byte order mark first
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {reason_of(error)}") from None
    if not rows:
        raise DataError(f"{path} is empty: a manifest has the columns path and label")
    header, body = rows[0], rows[1:]
    check_names_once(path, header)
    for row, line in zip(body, lines[1:], strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}, must have {len(header)} entries, as many as the header, got {len(row)}: "
                "put text with a comma in quotes"
            )
    columns: Columns = {name: [row[place] for row in body] for place, name in enumerate(header)}
    return columns, lambda row: f"{path}, line {lines[row + 1]}"


def _read_parquet(path: Path) -> tuple[Columns, Where]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(regular(path))
        names = file.schema_arrow.names
        check_names_once(path, names)
        # other columns are refused by their names: their content is not read
        known = file.read(columns=[name for name in names if name in COLUMNS]).to_pydict()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error)}") from None
    columns: Columns = {name: known.get(name, []) for name in names}
    return columns, lambda row: f"{path}, row {row}"
