"""A diagnosis in words, line by line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from lossgauge.diagnosis.comparison import SHARES, Comparison
from lossgauge.diagnosis.records import Diagnosis, Ranked
from lossgauge.diagnostics.error_rates import OperatingPoint
from lossgauge.diagnostics.open_set import OpenSet
from lossgauge.diagnostics.spectrum import Spectrum
from lossgauge.health.finding import Finding
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, rounded, short, shown, shown_interval

MOST_PAIRS, MOST_SUSPECTS, MOST_COPIES = 5, 5, 3


def lines(of: Diagnosis) -> Iterator[str]:
    """What was measured, what it says, and what changed."""
    yield from of.notes
    yield size_line(of)
    yield from ranked_lines(of)
    yield geometry_line(of)
    yield spectrum_line(of)
    yield from threshold_lines(of)
    yield from hubness_lines(of)
    yield from pair_lines(of)
    yield from copy_lines(of)
    yield from finding_lines(of.findings)
    if of.against is not None:
        yield from comparison_lines(of, of.against)


def row_name(of: Diagnosis, row: int) -> str:
    """The id of a row; its number in the file, from 0, where the table has no ids."""
    return str(row) if of.ids is None else str(of.ids[row])


def size_line(of: Diagnosis) -> str:
    classes = ""
    if of.class_count:
        classes = f" of {counted(of.class_count, 'class')}"
        single = of.geometry.singleton_count
        classes += f", {single} with only one row" if single else ""
    norms = of.norms
    lengths = (
        f"norms from {number(norms.least)} to {number(norms.most)}"
        if norms.differ
        else f"all norms {number(norms.mean)}"
    )
    return f"{counted(of.row_count, 'row')}{classes}, width {of.width}, {lengths}"


def ranked_lines(of: Diagnosis) -> Iterator[str]:
    """Where two searches by cosine have other rows, each line begins with the rows it is about."""
    first, *others = of.ranked or (None,)
    if first is not None:
        asked = f" of {counted(first.query_count, 'query')} among all rows" if others[1:] else ""
        yield ranked_line(first, asked)
    for ranked in others:
        drawn = first is not None and ranked.searched < first.searched
        some = f" among {'a sample of ' if drawn else ''}{ranked.searched:,} rows"
        yield ranked_line(ranked, some if others[1:] else "")


def ranked_line(ranked: Ranked, among: str = "") -> str:
    parts = [f"R@{k} {shown_share(value)}" for k, value in ranked.recall_at.items()]
    if ranked.map_at_r is not None:
        parts.append(f"MAP@R {shown_share(ranked.map_at_r)}")
    if ranked.r_precision is not None:
        parts.append(f"R-precision {shown_share(ranked.r_precision)}")
    by = "dot product" if ranked.similarity == "dot" else ranked.similarity
    skipped = (
        f", {ranked.skipped_count:,} without one of their class" if ranked.skipped_count else ""
    )
    return (
        f"retrieval by {by}{among}: {'  '.join(parts)} ({counted(ranked.query_count, 'query')} against "
        f"{ranked.searched:,} rows{skipped})"
    )


def geometry_line(of: Diagnosis) -> str:
    space = of.geometry
    names = {"intra": space.intra, "inter": space.inter, "offset": space.offset, "CDNV": space.cdnv}
    known = [f"{name} {number(value)}" for name, value in names.items() if value == value]
    if not math.isnan(space.uniformity):
        known.append(f"uniformity {rounded(space.uniformity, 2)}")
    return f"geometry of the normalised rows: {'  '.join(known)}"


def spectrum_line(of: Diagnosis) -> str:
    return f"spectrum: {spectrum_words(of.spectrum)}"


def spectrum_words(spread: Spectrum) -> str:
    if not spread.for_90_percent:
        return f"none, because all rows have the same direction (width {spread.width})"
    top = ", ".join(
        f"{shown(share, 'percent')} in the strongest{f' {first}' if first > 1 else ''}"
        for first, share in spread.top_share.items()
    )
    return (
        f"effective rank {number(spread.effective_rank)} of {spread.width}; 90 % of the variance is in "
        f"{counted(spread.for_90_percent, 'direction')}{'; ' + top if top else ''}"
    )


def threshold_lines(of: Diagnosis) -> Iterator[str]:
    measured = of.thresholds
    if measured is not None:
        rates = "  ".join(
            f"TPR {shown_share(point.tpr)} at FAR {point.far:g} ({point_threshold(point)})"
            for point in measured.at_far
        )
        yield (
            f"thresholds on the cosine: EER {shown_share(measured.eer)} at {shown_threshold(measured.eer_threshold)}  "
            f"{rates} ({measured.genuine_count:,} pairs of one class, {measured.impostor_count:,} of two; intervals over "
            f"{measured.eer.over})"
        )
        gain = measured.per_class_gain
        own = (
            f"; a threshold for each class changes that by {points(gain)}"
            if gain is not None
            else f"; too few rows of each class ({counted(measured.row_count, 'row')} of "
            f"{counted(measured.class_count, 'class')}) to try a threshold for each class"
        )
        yield (
            f"best single threshold {shown_threshold(measured.best_threshold)}: balanced accuracy "
            f"{shown_share(measured.best_accuracy)}{own}"
        )
    if of.open_set is not None:
        yield open_set_line(of.open_set)


def open_set_line(of: OpenSet) -> str:
    if of.threshold > 1:  # a cosine of 1 is already too frequent
        return (
            "open set: no threshold, because too many queries of classes that are not in the gallery have a nearest row with a "
            f"similarity of 1 ({shown(of.closed_set, 'percent')} of known queries are identified without one)"
        )
    return (
        f"open set: a query whose nearest row is below {shown_threshold(of.threshold)} is called unknown: then "
        f"{shown(of.false_alarm, 'percent')} of the queries whose class is not in the gallery pass, and "
        f"{shown_share(of.identified)} of the others are identified ({shown(of.closed_set, 'percent')} without a threshold)"
    )


def hubness_lines(of: Diagnosis) -> Iterator[str]:
    hubs = of.hubness
    if hubs is None:
        return
    values = {name: of.hubness_intervals.get(name) for name in ("skew", "never_found")}
    skew = _or(values["skew"], rounded(hubs.skew, 2), "number")
    never = _or(values["never_found"], shown(hubs.never_found, "percent"), "percent")
    yield (
        f"hubness: skew {skew}; {never} of the rows are among the {hubs.k} nearest of no other row; row {row_name(of, hubs.most_found_row)} is "
        f"among those of {hubs.most_found:,} ({hubs.row_count:,} rows"
        f"{', ' + values['skew'].over if values['skew'] is not None else ''})"
    )


def pair_lines(of: Diagnosis) -> Iterator[str]:
    names = of.class_names
    for pair in of.confused[:MOST_PAIRS]:
        rows = ", ".join(
            f"{row_name(of, row)} (nearest {row_name(of, other)})"
            for row, other in zip(pair.rows, pair.nearest, strict=True)
        )
        yield (
            f"confused: {pair.queries:,} of {counted(round(pair.queries / pair.share), 'query')} of class {_name(pair.label, names)} "
            f"{'is' if pair.queries == 1 else 'are'} nearest to class {_name(pair.other, names)}, {pair.back:,} the other way: "
            f"look at {'row' if len(pair.rows) == 1 else 'rows'} {rows}"
        )
    suspects = of.label_errors
    if suspects is not None and len(suspects.row):
        some = zip(
            suspects.row[:MOST_SUSPECTS].tolist(),
            suspects.given.tolist(),
            suspects.suggested.tolist(),
            strict=False,
        )
        rows = ", ".join(
            f"row {row_name(of, row)} (class {_name(given, names)}, looks like {_name(other, names)})"
            for row, given, other in some
        )
        yield (
            f"suspicious labels: {len(suspects.row):,} of the {counted(suspects.row_count, 'row')} that were judged; the first: {rows}"
        )


def copy_lines(of: Diagnosis) -> Iterator[str]:
    copied = of.copies
    if not len(copied.row):
        return
    kinds = {
        "inside classes": copied.inside_classes,
        "between classes": copied.between_classes,
        "across the split": copied.across_split,
    }
    parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count is not None)
    pairs = ", ".join(
        f"row {row_name(of, row)} equals row {row_name(of, first)}"
        for row, first in zip(
            copied.row[:MOST_COPIES].tolist(), copied.of[:MOST_COPIES].tolist(), strict=True
        )
    )
    equal = "equals" if len(copied.row) == 1 else "equal"
    more = ", …" if len(copied.row) > MOST_COPIES else ""
    yield (
        f"copies: {counted(len(copied.row), 'row')} {equal} an earlier row{' (' + parts + ')' if parts else ''}: {pairs}{more}"
    )


def finding_lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    bad = [finding for finding in findings if finding.level != "ok"]
    for finding in bad:
        yield f"{finding.level}: {finding.name}: {finding.sentence}"
    if not bad:
        yield f"no known problem found ({len(findings)} checks)"


def comparison_lines(before: Diagnosis, of: Comparison) -> Iterator[str]:
    """What changed to the other table."""
    yield f"against {of.name}:"
    if of.recall_at:
        parts = [f"R@{k} {points(value)}" for k, value in of.recall_at.items()]
        if of.map_at_r is not None:
            parts.append(f"MAP@R {points(of.map_at_r)}")
        yield f"  retrieval by cosine changes by {'  '.join(parts)}, paired by query"
        yield (
            f"  {counted(len(of.got_worse), 'query')} got worse (was right, is wrong), {len(of.got_better):,} got better"
            + (f"; worst first: rows {_rows(before, of.got_worse)}" if len(of.got_worse) else "")
        )
    for change in of.classes_worse:
        yield (
            f"  class {_name(change.label, before.class_names)}: R@1 {shown(change.before, 'percent')} → "
            f"{shown(change.after, 'percent')} ({counted(change.query_count, 'query')})"
        )
    if of.thresholds is not None:
        tpr = "".join(
            f"  TPR at FAR {far:g} {points(value)}" for far, value in of.thresholds.tpr.items()
        )
        yield f"  EER changes by {points(of.thresholds.eer)}{tpr}"
    yield (
        f"  moved: {shown_interval(of.new_neighbors, 'percent')} of the nearest rows are new; CKA {rounded(of.cka, 3)}"
        + (f"; most: rows {_rows(before, of.moved)}" if len(of.moved) else "")
    )
    yield "  " + "  ".join(
        f"{name.replace('_', ' ')} {_of_space(name, one)} → {_of_space(name, two)}"
        for name, (one, two) in of.numbers.items()
    )
    for finding in of.after.findings:
        if finding.level != "ok":
            yield f"  {finding.level}: {finding.name}: {finding.sentence}"


def shown_share(of: Interval) -> str:
    """A share with its interval, whose bounds are shown where mean ± half width would leave 0 to 100 %.

    Where all queries are right, or none, the bound is one-sided: n of n are seen with a probability of 5 % if the share is 0.05^(1/n).
    """
    text = shown(of.mean, "percent")
    if of.half_width is None:
        if of.queries and of.mean in (0, 1):
            bound = 0.05 ** (1 / of.queries)
            return (
                f"{text} (at least {shown(bound, 'percent')})"
                if of.mean
                else f"{text} (at most {shown(1 - bound, 'percent')})"
            )
        return text
    if of.low <= 0 and of.high >= 1:
        return f"{text} (interval not known: too few rows)"
    if of.low < 0 or of.high > 1:
        low, high = (shown(min(max(bound, 0.0), 1.0), "percent") for bound in (of.low, of.high))
        return f"{text} ({low} to {high})"
    return shown_interval(of, "percent")


def point_threshold(of: OperatingPoint) -> str:
    """`threshold 0.812`, or why there is none."""
    if math.isfinite(of.threshold):
        return f"threshold {shown_threshold(of.threshold)}"
    return f"no threshold: {of.tpr.missing}"


def shown_threshold(value: float) -> str:
    """A threshold on the cosine with three decimals, or with those that tell it from 1."""
    gap = abs(1 - value)
    return rounded(
        value, 3 if gap >= 0.01 or gap == 0 else min(16, 2 - math.floor(math.log10(gap)))
    )


def number(value: float) -> str:
    """Three significant digits, or `not defined`."""
    return short(value, 3) if math.isfinite(value) else "not defined"


def _of_space(name: str, value: float) -> str:
    return shown(value, "percent") if name in SHARES else number(value)


def points(of: Interval) -> str:
    """A difference of shares in points, with its interval or why there is none."""
    change = rounded(100 * of.mean, 2, signed=True)
    if of.half_width is None:
        return f"{change} points ({of.why_none})"
    return f"{change} ± {rounded(100 * of.half_width, 2)} points"


def _or(known: Interval | None, text: str, unit: str) -> str:
    if known is None:
        return text
    return shown_interval(known, "percent" if unit == "percent" else "number")


def _rows(of: Diagnosis, rows: np.ndarray) -> str:
    return ", ".join(row_name(of, row) for row in rows[:5].tolist())


def _name(label: int, names: Mapping[int, str]) -> str:
    return names.get(label, str(label))
