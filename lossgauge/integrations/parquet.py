"""Parquet: a file for each table.   https://parquet.apache.org"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from lossgauge.integrations.exporter import Export, Exporter
from lossgauge.results.columns import TABLES


def write_parquet(export: Export) -> None:
    """Writes `runs.parquet` and the other tables into the folder; large tables in parts."""
    for name in TABLES:
        path, schema = Path(f"{export.folder}/{name}.parquet"), export.tables.schema(name)
        with pq.ParquetWriter(path, schema) as writer:
            for chunk in export.tables.chunks(name):
                writer.write_table(chunk)


EXPORTER = Exporter(write=write_parquet)
