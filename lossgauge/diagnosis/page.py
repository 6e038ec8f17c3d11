"""A diagnosis as one HTML file, in the style of the report; without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lossgauge.diagnosis import sentences
from lossgauge.diagnosis.records import Diagnosis
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
    return write_html(
        lambda: diagnosis_page(of),
        path,
        advice="fix that and run the same command again, or give another path",
    )


def diagnosis_page(of: Diagnosis) -> str:
    """The page as HTML. The same diagnosis gives the same bytes."""
    after = of.against
    return render(
        "diagnosis.html",
        name=of.name,
        facts=sentences.size_line(of),
        notes=of.notes,
        findings=of.findings,
        lines=list(numbers(of)),
        tables=list(tables(of)),
        against=after and after.name,
        changes=[] if after is None else list(sentences.comparison_lines(of, after))[1:],
    )


def numbers(of: Diagnosis) -> Iterator[str]:
    """One line for each group of numbers."""
    for ranked in of.ranked:
        yield sentences.ranked_line(ranked)
    yield sentences.geometry_line(of)
    yield sentences.spectrum_line(of)
    yield from sentences.threshold_lines(of)
    yield from sentences.hubness_lines(of)
    yield from sentences.copy_lines(of)


def tables(of: Diagnosis) -> Iterator[Table]:
    """Thresholds, confusable classes, suspicious labels, copies, and queries that got worse; none that is empty."""
    name = of.class_names.get
    if of.thresholds is not None:
        measured = of.thresholds
        yield Table(
            "Thresholds on the cosine",
            ("operating point", "threshold", "pairs of one class that pass", "of two classes"),
            [
                *(
                    (
                        f"FAR {p.far:g}",
                        sentences.shown_threshold(p.threshold),
                        sentences.shown_share(p.tpr),
                        shown(p.far, "percent"),
                    )
                    for p in measured.at_far
                ),
                (
                    "EER",
                    sentences.shown_threshold(measured.eer_threshold),
                    shown(1 - measured.eer.mean, "percent"),
                    sentences.shown_share(measured.eer),
                ),
            ],
        )
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
                        f"{row} → {other}"
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
                    str(row),
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
            "Copies", ("row", "equals row"), [(str(row), str(first)) for row, first in pairs]
        )
    if of.against is not None and len(of.against.got_worse):
        rows = of.against.got_worse[:MOST_LISTED].tolist()
        labels = [] if of.labels is None else of.labels[rows].tolist()
        yield Table(
            "Queries that got worse",
            ("row", "class"),
            [(str(row), name(label, str(label))) for row, label in zip(rows, labels, strict=True)],
        )
