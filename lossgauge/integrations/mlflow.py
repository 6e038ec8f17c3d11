"""MLflow: one experiment for a study, with its runs.   https://mlflow.org/docs/latest/ml/tracking

The store is a SQLite file in a folder, or the server that MLFLOW_TRACKING_URI names. A finished run is not changed;
an unfinished run of an interrupted export is deleted and written again.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from lossgauge.errors import MissingExtra, StudyError
from lossgauge.integrations.environ import variable
from lossgauge.integrations.exporter import Exporter, RunSource
from lossgauge.integrations.tracked import TrackedRun

DATABASE = "mlflow.db"
ID_TAG = "lossgauge.id"
SERVER = "MLFLOW_TRACKING_URI"

_METRICS, _PARAMS = 1000, 100
"""The most entries that MLflow accepts in one call."""

_NO_TELEMETRY = ("MLFLOW_DISABLE_TELEMETRY", "true")
"""Read when MLflow is imported, and sometimes later again."""


def import_mlflow() -> Any:
    """MLflow, without telemetry in this process. Raises MissingExtra, which says how to install it."""
    with variable(*_NO_TELEMETRY), _a_home():
        try:
            import_module("sqlalchemy")
            return import_module("mlflow")
        except ImportError:
            raise MissingExtra(
                "export to mlflow needs MLflow and SQLAlchemy: pip install 'lossgauge[mlflow]'"
            ) from None


@contextmanager
def _a_home() -> Iterator[None]:
    """MLflow looks for a home folder when it is imported, and fails where there is none; it writes nothing there."""
    try:
        Path.home()
    except RuntimeError:
        with variable("HOME", os.sep):
            yield
    else:
        yield


def write_mlflow(export: RunSource) -> None:
    """Add missing runs to the experiment `export.study`, in the folder or, without one, at MLFLOW_TRACKING_URI.

    Raises StudyError with the message of MLflow or the database if the store cannot be written.
    """
    mlflow, sqlalchemy = import_mlflow(), import_module("sqlalchemy")
    folder = export.folder
    uri = os.environ[SERVER] if folder is None else _local_uri(folder)
    with variable(*_NO_TELEMETRY), _quiet():
        try:
            # the registry too: by default it opens a database in the working directory
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment = _experiment(client, export.study)
            finished = _finished(client, experiment)
            for run in export.runs():
                if run.id not in finished:
                    _write_run(mlflow.entities, client, experiment, run)
        except (mlflow.exceptions.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
            words = _words(error)
            if folder is not None and "already exists" in words:
                # something ended an export while it created its tables, and it cannot continue from there
                words += f"; delete {folder / DATABASE} and export again"
            raise StudyError(f"MLflow cannot be written: {words}") from None


def _words(error: Exception) -> str:
    """The error text, without the failed statement (all numbers of a run) and without a password."""
    words = str(getattr(error, "orig", None) or error)
    return re.sub(r"://[^/@\s]+@", "://", words.partition("[SQL:")[0].strip())


def _local_uri(folder: Path) -> str:
    # built by SQLAlchemy, which escapes special characters
    url = import_module("sqlalchemy.engine").URL
    place = str((folder / DATABASE).resolve())
    uri: str = url.create("sqlite", database=place).render_as_string(hide_password=False)
    return uri


def _experiment(client: Any, name: str) -> str:
    existing = client.get_experiment_by_name(name)
    if existing is not None and existing.lifecycle_stage != "active":
        raise StudyError(
            f"the MLflow experiment {name!r} is deleted: restore it (mlflow experiments restore), or delete it for good"
        )
    experiment: str = client.create_experiment(name) if existing is None else existing.experiment_id
    return experiment


def _finished(client: Any, experiment: str) -> set[str]:
    """Ids of the finished runs; the unfinished runs of an interrupted export are deleted."""
    finished, token = set(), None
    while True:
        page = client.search_runs([experiment], page_token=token)
        for run in page:
            if ID_TAG not in run.data.tags:
                continue
            if run.info.status == "FINISHED":
                finished.add(run.data.tags[ID_TAG])
            else:
                client.delete_run(run.info.run_id)
        token = page.token
        if not token:
            return finished


def _write_run(entities: Any, client: Any, experiment: str, run: TrackedRun) -> None:
    now = int(1000 * time.time())
    tags = {**run.tags, ID_TAG: run.id}
    new = client.create_run(experiment, start_time=now, run_name=run.name, tags=tags).info.run_id
    last = run.epochs[-1][0] if run.epochs else 0
    metrics = [
        entities.Metric(name, value, now, epoch)
        for epoch, values in [*run.epochs, (last, run.summary)]
        for name, value in values.items()
    ]
    params = [entities.Param(name, str(value)) for name, value in run.config.items()]
    for start in range(0, len(metrics), _METRICS):
        client.log_batch(new, metrics=metrics[start : start + _METRICS])
    for start in range(0, len(params), _PARAMS):
        client.log_batch(new, params=params[start : start + _PARAMS])
    client.set_terminated(new, "FINISHED")  # written last: it marks the run as complete


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the log lines for each migration of a new database, and tracebacks of errors that are raised anyway."""
    log = logging.getLogger("mlflow")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def without_password(uri: str) -> str:
    """The address without a user's name and password."""
    scheme, separator, rest = uri.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _location(export: RunSource) -> str:
    if export.folder is None:
        return f"experiment {export.study!r} at {without_password(os.environ[SERVER])}"
    return str(export.folder)


EXPORTER = Exporter(
    write=write_mlflow,
    check_installed=import_mlflow,
    adds_runs=True,
    uses_server=lambda: bool(os.environ.get(SERVER)),
    location=_location,
)
