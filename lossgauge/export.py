"""A study's folder in another form: tables as files, or runs for a tracker.

    parquet, csv   a file a table, and export.json beside them; an earlier export is replaced
    tensorboard    a folder of event files a run; an earlier export is replaced
    mlflow, wandb  runs that are not there are added, the others left alone

A folder is replaced only if nothing is in it but an earlier export, whose list of files is its export.json.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lossgauge.errors import CacheError, InputError, StudyError, nearest
from lossgauge.files import atomic_folder, read_json, remove_leftovers, write_json
from lossgauge.integrations.mlflow import SERVER, import_mlflow, write_mlflow
from lossgauge.integrations.tensorboard import import_writer, write_tensorboard
from lossgauge.integrations.tracked import TrackedRun, track
from lossgauge.integrations.wandb import import_wandb, is_online, project_name, write_wandb
from lossgauge.results.columns import TABLES
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.view import StudyView
from lossgauge.types import Record
from lossgauge.user_folders import some_home

FORMATS = ("parquet", "csv", "mlflow", "wandb", "tensorboard")

MARKER = "export.json"
"""In every folder that an export made: which, and of what study."""

_LIBRARIES = {"mlflow": import_mlflow, "wandb": import_wandb, "tensorboard": import_writer}


@some_home()
def export_study(
    folder: Path,
    to: str,
    out: Path | None = None,
    *,
    quote_formulas: bool = False,
    view: StudyView | None = None,
) -> str:
    """Write the study in `folder` as one of FORMATS into `out`, and say where it is.

    `out` is `folder`/export/`to` if not given; for mlflow, without it, MLFLOW_TRACKING_URI goes first. Nothing is
    written unless the library is there (MissingExtra), `folder` holds a study (StudyError), and `out` is new, empty,
    or an earlier export (InputError). In csv, `quote_formulas` puts an apostrophe before text that a spreadsheet
    would take for a formula. `view` is the study in `folder`, if it was read already.
    """
    if to not in FORMATS:
        raise InputError(f"a study cannot be exported to {to!r}{nearest(to, FORMATS)}")
    if quote_formulas and to != "csv":
        raise InputError(f"quote_formulas is for csv alone, got {to}; leave it out")
    if to in _LIBRARIES:
        _LIBRARIES[to]()
    tables = StudyTables(read_study(folder) if view is None else view)
    name = folder.resolve().name
    if to == "mlflow" and out is None and os.environ.get(SERVER):
        write_mlflow(tracked_runs(tables), study=name, folder=None)
        return f"experiment {name!r} at {_without_password(os.environ[SERVER])}"
    target = (folder / "export" / to if out is None else out).resolve()
    about = {"export": to, "study": name, "plan": tables.view.plan}
    about["environment"] = tables.view.environment
    try:
        if to in ("mlflow", "wandb"):
            _check_earlier(target, to)
            target.mkdir(parents=True, exist_ok=True)
            write_json(target / MARKER, about)
            if to == "mlflow":
                write_mlflow(tracked_runs(tables), study=name, folder=target)
            else:
                write_wandb(tracked_runs(tables), study=name, folder=target)
        else:
            _check_replaceable(target, to)
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target)
            with atomic_folder(target) as fresh:
                if to == "tensorboard":
                    write_tensorboard(tracked_runs(tables), folder=fresh)
                else:
                    _write_tables(tables, to, fresh, quote_formulas=quote_formulas)
                write_json(fresh / MARKER, {**about, "files": _files(fresh)})
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror or error}") from None
    if to == "wandb" and is_online():
        return f"project {project_name(name)!r} at Weights & Biases; its logs in {target}"
    return str(target)


def tracked_runs(tables: StudyTables) -> Iterator[TrackedRun]:
    """The runs of a study for a tracker, in its order: `default`, `tuned` and `sensitivity`, without trials."""
    schema = tables.schema("epochs")
    for row, timing in zip(tables.runs, tables.timing, strict=True):
        epochs = tables.part(row, "epochs", schema).to_pylist()
        yield track(row, timing=timing, config=tables.config(row), epochs=epochs)


def _write_tables(tables: StudyTables, to: str, folder: Path, *, quote_formulas: bool) -> None:
    for name in TABLES:
        path, schema = folder / f"{name}.{to}", tables.schema(name)
        writer = (
            pq.ParquetWriter(path, schema) if to == "parquet" else pa.csv.CSVWriter(path, schema)
        )
        with writer:
            for chunk in tables.chunks(name):
                writer.write_table(_quoted(chunk) if quote_formulas else chunk)


def _quoted(table: pa.Table) -> pa.Table:
    """With an apostrophe before each text that a spreadsheet would run, or that hides its beginning.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    for place, field in enumerate(table.schema):
        if field.type == pa.string():
            column = table[field.name]
            runs = pc.match_substring_regex(column, "^[=+\\-@\t\r\n＝＋－＠]")
            quoted = pc.binary_join_element_wise("'", column, "")
            table = table.set_column(place, field, pc.if_else(runs, quoted, column))
    return table


def _check_earlier(target: Path, to: str) -> Record | None:
    """The marker of an earlier export in `target`; None where that is new or empty. InputError for all else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        marker = read_json(target / MARKER)
    except CacheError:
        marker = None
    if marker is None or marker.get("export") != to or not _names(marker.get("files", [])):
        raise InputError(
            f"{target} holds something that is no earlier export to {to}; give another folder with --out, "
            "or move it away"
        )
    return marker


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_replaceable(target: Path, to: str) -> None:
    """InputError unless all that is in `target` is of an earlier export."""
    marker = _check_earlier(target, to)
    if marker is None:
        return
    foreign = [name for name in _files(target) if name not in (MARKER, *marker.get("files", []))]
    if foreign:
        raise InputError(
            f"{target / foreign[0]} is not of the earlier export there, which would be replaced; "
            "move it away, or give another folder with --out"
        )


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
