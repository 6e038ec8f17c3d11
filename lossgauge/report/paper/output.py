"""The files of a paper in a folder: tables.md, tables.tex, a CSV file for each table, and the figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lossgauge.errors import InputError, nearest
from lossgauge.report.paper.csv import csv_table
from lossgauge.report.paper.figures import KINDS, check_installed, paper_figures, save
from lossgauge.report.paper.latex import latex
from lossgauge.report.paper.markdown import markdown
from lossgauge.report.paper.tables import paper_tables, tables_of
from lossgauge.results.view import StudyView

FORMATS = ("md", "latex", "csv")

_SHOWN_IN = {"md": ("svg", "png"), "latex": ("pdf", "png")}
"""The kinds of figures that a format can show, the better one first."""


def check_paper(formats: Sequence[str], figures: Sequence[str]) -> None:
    """InputError for an unknown format, and without one; MissingExtra for figures without matplotlib."""
    for what, given, known in (("format", formats, FORMATS), ("kind of figure", figures, KINDS)):
        for name in given:
            if name not in known:
                raise InputError(f"unknown {what} {name!r}{nearest(name, known)}")
    if not formats and not figures:
        raise InputError(
            f"name a format ({', '.join(FORMATS)}) or a kind of figure ({', '.join(KINDS)})"
        )
    if figures:
        check_installed()


def write_paper(
    view: StudyView, folder: Path, formats: Sequence[str], figures: Sequence[str]
) -> None:
    """Write everything into a folder that exists. The tables in md and latex show the figures that are written too."""
    drawn = _write_figures(view, folder, dict.fromkeys(figures))
    tables = list(paper_tables(view))
    for name in dict.fromkeys(formats):
        kind = next((kind for kind in _SHOWN_IN.get(name, ()) if kind in figures), None)
        shown = [(f"{file}.{kind}", caption) for file, caption in drawn] if kind else []
        if name == "md":
            _write(folder / "tables.md", markdown(tables, [file for file, _ in shown]))
        elif name == "latex":
            _write(folder / "tables.tex", latex(tables, shown))
        else:
            for table in tables_of(view):
                _write(folder / f"{table}.csv", csv_table(view, table))


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())  # not as text: CSV has its own line ends


def _write_figures(view: StudyView, folder: Path, kinds: dict[str, None]) -> list[tuple[str, str]]:
    """File names without ending, and captions. Nothing is drawn if no kind is asked for."""
    drawn = []
    for of in paper_figures(view) if kinds else ():
        number = view.datasets.index(of.dataset) + 1
        # a name that every file system and LaTeX take
        file = f"{of.name}-{number}-{re.sub('[^A-Za-z0-9]+', '-', of.dataset)[:60].strip('-')}"
        for kind in kinds:
            save(of.figure, folder / f"{file}.{kind}")
        drawn.append((file, f"{of.dataset}. {of.caption}"))
    return drawn
