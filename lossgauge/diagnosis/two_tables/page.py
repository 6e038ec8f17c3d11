"""A diagnosis of two tables as one HTML file, in the style of the report; without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lossgauge.diagnosis.page import MOST_LISTED, Table, html, threshold_table, write
from lossgauge.diagnosis.two_tables import sentences
from lossgauge.diagnosis.two_tables.records import RetrievalDiagnosis
from lossgauge.stats.number_format import rounded, shown


def write_retrieval_diagnosis(of: RetrievalDiagnosis, path: Path) -> Path:
    """`path`, which now holds the page. Raises InputError or DiskError where it cannot be written."""
    return write(lambda: retrieval_page(of), path)


def retrieval_page(of: RetrievalDiagnosis) -> str:
    """The page as HTML. The same diagnosis gives the same bytes."""
    after = of.against
    return html(
        of,
        facts=sentences.size_line(of),
        lines=numbers(of),
        tables=tables(of),
        changes=() if after is None else sentences.comparison_lines(after),
    )


def numbers(of: RetrievalDiagnosis) -> Iterator[str]:
    """One line for each group of numbers."""
    yield from sentences.judged_lines(of)
    yield from sentences.centered_lines(of)
    yield from sentences.threshold_lines(of)
    yield sentences.gap_line(of)
    yield from sentences.space_lines(of)
    yield from sentences.hubness_lines(of)
    yield from sentences.copy_lines(of)


def tables(of: RetrievalDiagnosis) -> Iterator[Table]:
    """Thresholds, queries that fail, and queries that got worse; none that is empty."""
    if of.thresholds is not None:
        yield threshold_table(of.thresholds, "right pairs that pass", "other pairs")
    if of.failures:
        yield Table(
            "Queries without a right document among the first 10",
            ("query", "right document", "cosine", "rank", "documents before it"),
            [
                (
                    failure.query,
                    failure.right,
                    sentences.cosine_words(failure),
                    "above 100" if failure.rank is None else str(failure.rank),
                    ", ".join(
                        f"{document} ({rounded(score, 3)})"
                        for document, score in zip(
                            failure.nearer, failure.nearer_similarity, strict=True
                        )
                    ),
                )
                for failure in of.failures[:MOST_LISTED]
            ],
        )
    if of.against is not None and of.against.got_worse:
        yield Table(
            "Queries that got worse",
            ("query", "nDCG@10 before", "after"),
            [
                (change.query, shown(change.before, "percent"), shown(change.after, "percent"))
                for change in of.against.got_worse[:MOST_LISTED]
            ],
        )
