"""A diagnosis in words, line by line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from lossgauge.diagnosis.comparison import Comparison
from lossgauge.diagnosis.records import Diagnosis, Ranked
from lossgauge.health.finding import Finding
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, rounded, short, shown, shown_interval

MOST_PAIRS, MOST_SUSPECTS = 5, 5


def lines(of: Diagnosis) -> Iterator[str]:
    """What was measured, what it says, and what changed."""
    yield from of.notes
    yield size_line(of)
    for ranked in of.ranked:
        yield ranked_line(ranked)
    yield geometry_line(of)
    yield spectrum_line(of)
    yield from threshold_lines(of)
    yield from hubness_lines(of)
    yield from pair_lines(of)
    yield from copy_lines(of)
    yield from finding_lines(of.findings)
    if of.against is not None:
        yield from comparison_lines(of, of.against)


def size_line(of: Diagnosis) -> str:
    classes = ""
    if of.class_count:
        classes = f" of {counted(of.class_count, 'class')}"
        single = of.geometry.singleton_count
        classes += f", {single} with only one row" if single else ""
    norms = of.norms
    lengths = (
        f"norms from {_number(norms.least)} to {_number(norms.most)}"
        if norms.differ
        else f"all norms {_number(norms.mean)}"
    )
    return f"{counted(of.row_count, 'row')}{classes}, width {of.width}, {lengths}"


def ranked_line(ranked: Ranked) -> str:
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
        f"retrieval by {by}: {'  '.join(parts)} ({counted(ranked.query_count, 'query')} against "
        f"{ranked.searched:,} rows{skipped})"
    )


def geometry_line(of: Diagnosis) -> str:
    space = of.geometry
    names = {"intra": space.intra, "inter": space.inter, "offset": space.offset, "CDNV": space.cdnv}
    known = [f"{name} {_number(value)}" for name, value in names.items() if value == value]
    if not math.isnan(space.uniformity):
        known.append(f"uniformity {rounded(space.uniformity, 2)}")
    return f"geometry of the normalised rows: {'  '.join(known)}"


def spectrum_line(of: Diagnosis) -> str:
    spread = of.spectrum
    top = ", ".join(
        f"{shown(share, 'percent')} in the first {number}"
        for number, share in spread.top_share.items()
    )
    return (
        f"spectrum: effective rank {_number(spread.effective_rank)} of {spread.width}; {spread.for_90_percent} directions "
        f"hold 90 % of the variance{'; ' + top if top else ''}"
    )


def threshold_lines(of: Diagnosis) -> Iterator[str]:
    measured = of.thresholds
    if measured is not None:
        rates = "  ".join(
            f"TPR {shown_share(point.tpr)} at FAR {point.far:g} (threshold {shown_threshold(point.threshold)})"
            for point in measured.at_far
        )
        yield (
            f"thresholds on the cosine: EER {shown_share(measured.eer)} at {shown_threshold(measured.eer_threshold)}  "
            f"{rates} ({measured.genuine_count:,} pairs of one class, {measured.impostor_count:,} of two; intervals over "
            f"{measured.eer.over})"
        )
        gain = measured.per_class_gain
        own = (
            f"; a threshold for each class changes that by {_points(gain)}"
            if gain is not None
            else ""
        )
        yield (
            f"best single threshold {shown_threshold(measured.best_threshold)}: balanced accuracy "
            f"{shown_share(measured.best_accuracy)}{own}"
        )
    if of.open_set is not None:
        opened = of.open_set
        yield (
            f"none of the gallery: below {shown_threshold(opened.threshold)}, {shown(opened.false_alarm, 'percent')} of unknown "
            f"queries pass, and {shown_share(opened.identified)} of known ones are identified "
            f"({shown(opened.closed_set, 'percent')} without a threshold)"
        )


def hubness_lines(of: Diagnosis) -> Iterator[str]:
    hubs = of.hubness
    if hubs is None:
        return
    values = {name: of.hubness_intervals.get(name) for name in ("skew", "never_found")}
    skew = _or(values["skew"], rounded(hubs.skew, 2), "number")
    never = _or(values["never_found"], shown(hubs.never_found, "percent"), "percent")
    yield (
        f"hubness: skew {skew} of the {hubs.k}-occurrence, {never} of the rows never found ({hubs.row_count:,} rows"
        f"{', ' + values['skew'].over if values['skew'] is not None else ''}); row {hubs.most_found_row} is found "
        f"{hubs.most_found} times"
    )


def pair_lines(of: Diagnosis) -> Iterator[str]:
    names = of.class_names
    for pair in of.confused[:MOST_PAIRS]:
        rows = ", ".join(
            f"{row} (nearest {other})" for row, other in zip(pair.rows, pair.nearest, strict=True)
        )
        yield (
            f"confused: {pair.queries} of the {counted(round(pair.queries / pair.share), 'query')} of class {_name(pair.label, names)} "
            f"are nearest to class {_name(pair.other, names)}, {pair.back} the other way: look at rows {rows}"
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
            f"{row} ({_name(given, names)}, looks like {_name(other, names)})"
            for row, given, other in some
        )
        yield (
            f"suspicious labels: {len(suspects.row):,} of {counted(suspects.row_count, 'row')} looked at; first rows {rows}"
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
        f"{row} of {first}"
        for row, first in zip(copied.row[:3].tolist(), copied.of[:3].tolist(), strict=True)
    )
    yield f"copies: {counted(len(copied.row), 'row')} equal an earlier one{' (' + parts + ')' if parts else ''}: {pairs}"


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
        parts = [f"R@{k} {_points(value)}" for k, value in of.recall_at.items()]
        if of.map_at_r is not None:
            parts.append(f"MAP@R {_points(of.map_at_r)}")
        yield f"  retrieval by cosine changes by {'  '.join(parts)}, paired by query"
        yield (
            f"  {counted(len(of.got_worse), 'query')} got worse (was right, is wrong), {len(of.got_better):,} got better"
            + (f"; worst first: rows {_rows(of.got_worse)}" if len(of.got_worse) else "")
        )
    for change in of.classes_worse:
        yield (
            f"  class {_name(change.label, before.class_names)}: R@1 {shown(change.before, 'percent')} → "
            f"{shown(change.after, 'percent')} ({counted(change.query_count, 'query')})"
        )
    if of.thresholds is not None:
        tpr = "".join(
            f"  TPR at FAR {far:g} {_points(value)}" for far, value in of.thresholds.tpr.items()
        )
        yield f"  EER changes by {_points(of.thresholds.eer)}{tpr}"
    yield (
        f"  moved: {shown_interval(of.new_neighbors, 'percent')} of the nearest rows are new; CKA {rounded(of.cka, 3)}; "
        f"most: rows {_rows(of.moved)}"
    )
    yield "  " + "  ".join(
        f"{name} {_number(one)} → {_number(two)}" for name, (one, two) in of.numbers.items()
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


def shown_threshold(value: float) -> str:
    """A threshold on the cosine with three decimals, or with those that tell it from 1."""
    if not math.isfinite(value):
        return "not known: too few pairs of two classes"
    gap = abs(1 - value)
    return rounded(
        value, 3 if gap >= 0.01 or gap == 0 else min(16, 2 - math.floor(math.log10(gap)))
    )


def _number(value: float) -> str:
    return short(value, 3) if math.isfinite(value) else "not defined"


def _points(of: Interval) -> str:
    """A difference of shares in points, with its interval or why there is none."""
    change = rounded(100 * of.mean, 2, signed=True)
    if of.half_width is None:
        return f"{change} points ({of.why_none})"
    return f"{change} ± {rounded(100 * of.half_width, 2)} points"


def _or(known: Interval | None, text: str, unit: str) -> str:
    if known is None:
        return text
    return shown_interval(known, "percent" if unit == "percent" else "number")


def _rows(rows: object) -> str:
    return ", ".join(map(str, list(rows)[:5]))  # type: ignore[call-overload]


def _name(label: int, names: Mapping[int, str]) -> str:
    return names.get(label, str(label))
