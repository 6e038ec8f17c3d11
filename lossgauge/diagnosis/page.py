"""A diagnosis as one HTML file, in the style of the report; without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lossgauge.diagnosis import sentences
from lossgauge.diagnosis.records import Diagnosis
from lossgauge.diagnosis.two_tables.records import RetrievalDiagnosis
from lossgauge.diagnostics.pair_thresholds import PairThresholds
from lossgauge.diagnostics.thresholds import Thresholds
from lossgauge.report.output import write_html
from lossgauge.report.page import render
from lossgauge.stats.number_format import shown

MOST_LISTED = 25
"""Rows in one table."""


class Table(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    """The first cell is the heading of its row."""


def write_diagnosis(of: Diagnosis, path: Path) -> Path:
    """`path`, which now holds the page. Raises InputError or DiskError where it cannot be written."""
    return write(lambda: diagnosis_page(of), path)


def write(make: Callable[[], str], path: Path) -> Path:
    """`path`, which now holds the page that `make` returns."""
    advice = "fix that and run the same command again, or give another path"
    return write_html(make, path, advice=advice)


def diagnosis_page(of: Diagnosis) -> str:
    """The page as HTML. The same diagnosis gives the same bytes."""
    after = of.against
    return html(
        of,
        facts=sentences.size_line(of),
        lines=numbers(of),
        tables=tables(of),
        changes=() if after is None else sentences.comparison_lines(of, after),
    )


def html(
    of: Diagnosis | RetrievalDiagnosis,
    *,
    facts: str,
    lines: Iterable[str],
    tables: Iterable[Table],
    changes: Iterable[str],
) -> str:
    """A page of these parts; the first of the `changes` is their title and is not shown."""
    return render(
        "diagnosis.html",
        name=of.name,
        facts=facts,
        notes=of.notes,
        findings=of.findings,
        lines=list(lines),
        tables=list(tables),
        against=of.against and of.against.name,
        changes=list(changes)[1:],
    )


def threshold_table(of: Thresholds | PairThresholds, genuine: str, impostor: str) -> Table:
    """The operating points and the EER; `genuine` and `impostor` name the pairs that pass."""
    return Table(
        "Thresholds on the cosine",
        ("operating point", "threshold", genuine, impostor),
        [
            *(
                (
                    f"FAR {point.far:g}",
                    sentences.point_threshold(point).removeprefix("threshold "),
                    sentences.shown_share(point.tpr),
                    shown(point.far, "percent"),
                )
                for point in of.at_far
            ),
            (
                "EER",
                sentences.shown_threshold(of.eer_threshold),
                shown(1 - of.eer.mean, "percent"),
                sentences.shown_share(of.eer),
            ),
        ],
    )


def numbers(of: Diagnosis) -> Iterator[str]:
    """One line for each group of numbers."""
    yield from sentences.ranked_lines(of)
    yield sentences.geometry_line(of)
    yield sentences.spectrum_line(of)
    yield from sentences.threshold_lines(of)
    yield from sentences.hubness_lines(of)
    yield from sentences.copy_lines(of)


def tables(of: Diagnosis) -> Iterator[Table]:
    """Thresholds, confusable classes, suspicious labels, copies, and queries that got worse; none that is empty."""
    name = of.class_names.get
    if of.thresholds is not None:
        yield threshold_table(of.thresholds, "pairs of one class that pass", "of two classes")
    if of.confused:
        yield Table(
            "Classes that are taken for each other",
            (
                "class",
                "nearest is of class",
                "queries",
                "share",
                "the other way",
                "rows to look at",
            ),
            [
                (
                    name(pair.label, str(pair.label)),
                    name(pair.other, str(pair.other)),
                    f"{pair.queries:,}",
                    shown(pair.share, "percent"),
                    f"{pair.back:,}",
                    ", ".join(
                        f"{sentences.row_name(of, row)} → {sentences.row_name(of, other)}"
                        for row, other in zip(pair.rows, pair.nearest, strict=True)
                    ),
                )
                for pair in of.confused
            ],
        )
    suspects = of.label_errors
    if suspects is not None and len(suspects.row):
        columns = (suspects.row, suspects.given, suspects.suggested, suspects.confidence)
        yield Table(
            "Labels that look wrong",
            ("row", "label", "looks like", "neighbours that agree"),
            [
                (
                    sentences.row_name(of, row),
                    name(given, str(given)),
                    name(other, str(other)),
                    shown(share, "percent"),
                )
                for row, given, other, share in zip(
                    *(column[:MOST_LISTED].tolist() for column in columns), strict=True
                )
            ],
        )
    if len(of.copies.row):
        pairs = zip(
            of.copies.row[:MOST_LISTED].tolist(), of.copies.of[:MOST_LISTED].tolist(), strict=True
        )
        yield Table(
            "Copies",
            ("row", "equals row"),
            [(sentences.row_name(of, row), sentences.row_name(of, first)) for row, first in pairs],
        )
    if of.against is not None and len(of.against.got_worse):
        rows = of.against.got_worse[:MOST_LISTED].tolist()
        labels = [] if of.labels is None else of.labels[rows].tolist()
        yield Table(
            "Queries that got worse",
            ("row", "class"),
            [
                (sentences.row_name(of, row), name(label, str(label)))
                for row, label in zip(rows, labels, strict=True)
            ],
        )
