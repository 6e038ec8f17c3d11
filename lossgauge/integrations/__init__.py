"""Other tools that a study can be exported to, by name.

To add one: its file with an `Exporter`, its line here, its test, and its line in docs/export.md.
"""

from __future__ import annotations

from lossgauge.integrations import csv, mlflow, parquet, tensorboard, wandb
from lossgauge.integrations.exporter import Exporter

EXPORTERS: dict[str, Exporter] = {
    "parquet": parquet.EXPORTER,
    "csv": csv.EXPORTER,
    "mlflow": mlflow.EXPORTER,
    "wandb": wandb.EXPORTER,
    "tensorboard": tensorboard.EXPORTER,
}
