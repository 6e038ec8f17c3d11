"""A study in another form: tables as files, or runs for a tracker.

    parquet, csv   a file for each table, and export.json beside them; an earlier export is replaced
    tensorboard    a folder of event files for each run; an earlier export is replaced
    mlflow, wandb  missing runs are added, the others are not changed

A folder is replaced only if it contains nothing but an earlier export, whose files are listed in its export.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lossgauge.errors import CacheError, InputError, StudyError, nearest
from lossgauge.files import atomic_folder, read_json, remove_leftovers, write_json
from lossgauge.integrations import EXPORTERS
from lossgauge.integrations.exporter import Export, Exporter
from lossgauge.report.paper.output import check_paper, write_paper
from lossgauge.results.layout import Layout
from lossgauge.results.reader import read_study
from lossgauge.results.tables import StudyTables
from lossgauge.results.view import StudyView
from lossgauge.types import Record
from lossgauge.user_folders import some_home

MARKER = "export.json"
"""A file in the folder of every export: its format and its study."""

PAPER = "paper"
"""The export of the paper's tables and figures."""


@some_home()
def export_study(
    study: StudyView | Path, to: str, out: Path | None = None, *, quote_formulas: bool = False
) -> str:
    """Write a study, or the one in a folder, as one of EXPORTERS into `out`, and say where it is.

    Without `out` it goes to `export/<to>` in the study's folder; for mlflow, MLFLOW_TRACKING_URI comes first. Nothing
    is written unless the library is installed (MissingExtra), the folder holds a study (StudyError), and `out` is new,
    empty, or an earlier export (InputError). In csv, `quote_formulas` puts an apostrophe before text that a
    spreadsheet would take for a formula.
    """
    exporter = exporter_to(to, quote_formulas=quote_formulas)
    view = study if isinstance(study, StudyView) else read_study(study)
    tables = StudyTables(view)
    name = tables.folder.resolve().name
    if out is None and exporter.uses_server():
        export = Export(tables, name, None)
        exporter.write(export)
        return exporter.location(export)
    target = (Layout(tables.folder).export(to) if out is None else out).resolve()
    export = Export(tables, name, target, quote_formulas)
    about = {"study": name, "plan": tables.view.plan, "environment": tables.view.environment}
    write_folder(to, target, lambda folder: exporter.write(export._replace(folder=folder)), about)
    return exporter.location(export)


@some_home()  # matplotlib keeps a list of fonts
def export_paper(
    view: StudyView,
    out: Path | None = None,
    *,
    formats: Sequence[str] = (),
    figures: Sequence[str] = (),
) -> Path:
    """Write the paper's tables and figures into `out`, by default `export/paper` in the study's folder; an earlier
    folder of them is replaced.

    `formats` are of md, latex and csv, `figures` of pdf, svg and png. Raises InputError for an unknown one, for rows
    of one dataset from several splits, and if `out` has other content; MissingExtra if figures need matplotlib;
    StudyError if it cannot be written.
    """
    check_paper(formats, figures)
    if out is None and view.files is None:
        raise InputError("results that were not read from a folder need a folder to write to")
    folder = view.files.folder if view.files else Path()
    target = (Layout(folder).export(PAPER) if out is None else out).resolve()
    view = view.portable()
    view.check_one_split()
    about = {"study": folder.resolve().name, "plan": view.plan, "environment": view.environment}
    try:
        _replace_folder(PAPER, target, lambda new: write_paper(view, new, formats, figures), about)
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def write_folder(to: str, target: Path, write: Callable[[Path], None], about: Record) -> None:
    """Let `write` fill the folder of an export, which is new, empty or an earlier export to the same tool.

    Raises InputError for any other folder, and StudyError if it cannot be written.
    """
    try:
        if EXPORTERS[to].adds_runs:
            _check_earlier(target, to)
            target.mkdir(parents=True, exist_ok=True)
            write_json(target / MARKER, {"export": to, **about})
            write(target)
        else:
            _replace_folder(to, target, write, about)
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror or error}") from None


def _replace_folder(to: str, target: Path, write: Callable[[Path], None], about: Record) -> None:
    _check_replaceable(target, to)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    with atomic_folder(target) as temporary:
        write(temporary)
        write_json(temporary / MARKER, {"export": to, **about, "files": _files(temporary)})


def exporter_to(to: str, *, quote_formulas: bool = False) -> Exporter:
    """The exporter of this format. Raises InputError for a wrong option, MissingExtra if its library is not installed."""
    if to not in EXPORTERS:
        raise InputError(f"unknown export format {to!r}{nearest(to, EXPORTERS)}")
    if quote_formulas and to != "csv":
        raise InputError(f"quote_formulas has an effect only with csv, got {to}; leave it out")
    EXPORTERS[to].check_installed()
    return EXPORTERS[to]


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
            f"{target} is neither empty nor an earlier export to {to}; give another folder with --out, "
            "or move its content away"
        )
    return marker


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_replaceable(target: Path, to: str) -> None:
    """InputError unless everything in `target` is of an earlier export."""
    marker = _check_earlier(target, to)
    if marker is None:
        return
    foreign = [name for name in _files(target) if name not in (MARKER, *marker.get("files", []))]
    if foreign:
        raise InputError(
            f"{target / foreign[0]} is not part of the earlier export, and a new export replaces the whole folder; "
            "move the file away, or give another folder with --out"
        )


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
