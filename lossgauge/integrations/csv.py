"""CSV: a file for each table.   https://www.rfc-editor.org/rfc/rfc4180"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lossgauge.integrations.exporter import Export, Exporter
from lossgauge.results.columns import TABLES
from lossgauge.terminal import safe


def write_csv(export: Export) -> None:
    """Writes `runs.csv` and the other tables into the folder; large tables in parts."""
    for name in TABLES:
        path, schema = Path(f"{export.folder}/{name}.csv"), export.tables.schema(name)
        with pa.csv.CSVWriter(path, schema) as writer:
            for chunk in export.tables.chunks(name):
                writer.write_table(visible(quoted(chunk) if export.quote_formulas else chunk))


def visible(table: pa.Table) -> pa.Table:
    """Text with its control characters escaped as on a terminal: a CSV is shown with `cat` and in editors."""
    for place, field in enumerate(table.schema):
        if field.type == pa.string():
            column = table[field.name].combine_chunks().dictionary_encode()
            texts = pa.array([safe(text) for text in column.dictionary.to_pylist()], pa.string())
            table = table.set_column(place, field, texts.take(column.indices))
    return table


def quoted(table: pa.Table) -> pa.Table:
    """Adds an apostrophe before each text that a spreadsheet would run as a formula, or that hides its beginning.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    for place, field in enumerate(table.schema):
        if field.type == pa.string():
            column = table[field.name]
            runs = pc.match_substring_regex(column, "^[=+\\-@\t\r\n＝＋－＠]")
            with_apostrophe = pc.binary_join_element_wise("'", column, "")
            table = table.set_column(place, field, pc.if_else(runs, with_apostrophe, column))
    return table


EXPORTER = Exporter(write=write_csv)
