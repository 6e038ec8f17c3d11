"""Findings about labels and rows: labels that look wrong, copies, classes that are too small.

The thresholds are our choice, and each stands here only; docs/findings.md says on which sets they were fixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lossgauge.health.finding import Finding, Level, worst_first
from lossgauge.health.records import classes_in_words, finding, level_of
from lossgauge.stats.number_format import counted

if TYPE_CHECKING:
    from lossgauge.diagnostics.copies import Copies
    from lossgauge.diagnostics.label_errors import LabelErrors

SUSPECTS = (0.01, 0.05)
"""Share of rows whose label looks wrong above this: watch, act."""
COPIES_INSIDE = (0.01, 0.1)
"""Share of rows that are a copy of another row of their class above this: watch, act."""
COPIES_BETWEEN = (0.0, 0.01)
"""Share of rows that are a copy of a row of another class above this: watch, act."""
COPIES_ACROSS = (0.0, 0.01)
"""Share of rows that are on the test side and equal to a training row above this: watch, act."""
SINGLES = (0.01, 0.5)
"""Share of classes of one row above this: watch, act."""
SMALL = 5
"""A class with fewer rows says little about its spread."""
SMALL_SHARE = 0.5
"""Share of classes below SMALL above this: watch."""

MOST_SHOWN = 5
"""Row numbers in one record."""


def data_findings(
    *,
    label_errors: LabelErrors | None,
    copies: Copies | None,
    class_sizes: Mapping[int, int],
    names: Mapping[int, str] | None = None,
    row_name: Callable[[int], str] = str,
) -> list[Finding]:
    """What labels and rows say about the data, the worst first; what was not looked for (None) has no record.

    `class_sizes` is the number of rows of each label, empty without labels; `names` are the class names by label, and `row_name` gives the id of a row.
    """
    findings: list[Finding] = []
    if label_errors is not None:
        findings.append(_label_errors(label_errors, names, row_name))
    if copies is not None:
        findings += _copies(copies, names, row_name)
    if class_sizes:
        findings.append(_small_classes(class_sizes, names))
    return worst_first(findings)


def _label_errors(
    of: LabelErrors, names: Mapping[int, str] | None, row_name: Callable[[int], str]
) -> Finding:
    pairs = Counter(zip(of.given.tolist(), of.suggested.tolist(), strict=True))
    most = ""
    if pairs:
        (given, suggested), _ = pairs.most_common(1)[0]
        one, other = (classes_in_words([label], names) for label in (given, suggested))
        rows = ", ".join(map(row_name, of.row[:MOST_SHOWN].tolist()))
        more = " (`--json` lists more)" if len(of.row) > MOST_SHOWN else ""
        most = f"; most often {one} looks like {other}; first rows {rows}{more}"
    return finding(
        "label-errors",
        level_of(of.share, SUSPECTS),
        "the labels",
        f"{len(of.row):,} of {of.row_count:,} rows ({of.share:.1%}) have another class in most of their {of.k} nearest rows, and "
        f"their own in none{most}",
        f"up to {SUSPECTS[0]:.0%} is usual in clean data",
        why="Their labels look wrong, or the two classes cannot be told apart by these embeddings. A wrong label pulls a sample to the "
        "wrong class, and counts as a miss in retrieval.",
        advice="look at these rows, and correct or remove them before you train",
    )


def _copies(
    of: Copies, names: Mapping[int, str] | None, row_name: Callable[[int], str]
) -> list[Finding]:
    findings = []
    count = max(of.row_count, 1)
    rows = ", ".join(map(row_name, of.row[:MOST_SHOWN].tolist()))
    first = f"; the first of all copies: rows {rows}" if rows else ""
    if of.inside_classes is not None:
        worst = sorted(of.by_class, key=lambda label: -of.by_class[label])
        findings.append(
            finding(
                "copies",
                level_of(of.inside_classes / count, COPIES_INSIDE),
                classes_in_words(worst, names) if worst else "the rows",
                f"{_equal(of.inside_classes, count)} an earlier row of the same class{first}",
                f"up to {COPIES_INSIDE[0]:.0%} changes little",
                why="Copies are found first, so retrieval looks better than it is, and their class looks more compact.",
                advice="keep one row of each: `_, keep = numpy.unique(embeddings, axis=0, return_index=True); keep.sort()`; where copies have "
                "two labels, correct these first",
            )
        )
    if of.between_classes is not None:
        findings.append(
            finding(
                "copies-between-classes",
                level_of(of.between_classes / count, COPIES_BETWEEN),
                "the labels",
                f"{_equal(of.between_classes, count)} an earlier row with another label{first}",
                "none should: one of the two labels is wrong",
                why="The same input has two labels, so no loss can satisfy both.",
                advice="look at these rows, and give them one label",
            )
        )
    if of.across_split is not None:
        findings.append(
            finding(
                "copies-across-split",
                level_of(of.across_split / count, COPIES_ACROSS),
                "the split",
                f"{_equal(of.across_split, count)} a training row and {'is' if of.across_split == 1 else 'are'} on the test side{first}",
                "none should: the test then repeats the training",
                why="The test side has rows of the training side, so its numbers are too good.",
                advice="remove these rows from the test side, or split by groups: all copies on one side",
            )
        )
    return findings


def _equal(some: int, count: int) -> str:
    return f"{some:,} of {counted(count, 'row')} {'equals' if some == 1 else 'equal'}"


def _small_classes(sizes: Mapping[int, int], names: Mapping[int, str] | None) -> Finding:
    count = len(sizes)
    single = [label for label, size in sizes.items() if size == 1]
    small = [label for label, size in sizes.items() if size < SMALL]
    level: Level = level_of(len(single) / count, SINGLES)
    if level == "ok" and len(small) > SMALL_SHARE * count:
        level = "watch"
    shown = single or small
    return finding(
        "small-classes",
        level,
        classes_in_words(shown, names) if shown and level != "ok" else "the classes",
        f"{len(single)} of {counted(count, 'class')} {'has' if len(single) == 1 else 'have'} one row, and {len(small)} "
        f"{'has' if len(small) == 1 else 'have'} fewer than {SMALL}",
        f"a class of one row has no positive; up to {SINGLES[0]:.0%} of them changes little",
        why="A class of one row is never a positive pair and is left out of retrieval; the spread of one with few rows is uncertain.",
        advice="collect more rows or leave these classes out; with a loss of pairs, `sampler: m_per_class` and `small_classes: repeat`",
    )
