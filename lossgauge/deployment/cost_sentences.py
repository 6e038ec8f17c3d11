"""What a width costs, in words and tables: the head at each width, and the features without it at the same widths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossgauge.deployment.costs import Costs, WidthCost
from lossgauge.report.text.rankings import in_points
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, shown


def cost_lines(of: Costs) -> Iterator[str]:
    """A table of widths, and what its columns mean."""
    heads = (
        *("width", f"{of.metric}, first numbers", f"{of.metric}, principal directions"),
        *("float32", "int8", "search"),
    )
    yield from aligned([heads, *(_cost_row(row, of.widths[0].width) for row in of.widths)])
    change = ", with its change against the full width" if len(of.widths) > 1 else ""
    yield (
        f"{of.metric} of {counted(of.queries, 'query')} among {of.gallery:,} {'rows' if of.metric == 'R@1' else 'documents'}{change}; bytes and "
        f"search time are for a million rows: exact search for one query with numpy on this machine, "
        "scaled from 64 MB of random rows"
    )
    if len(of.widths) > 1:
        yield "--width N writes a head of N principal directions"
    yield (
        f"with one byte for each number of the gallery {of.metric} is {_with_change(of.int8, of.int8_change)}"
    )
    yield from _raw_lines(of)


def narrow_lines(of: Costs) -> Iterator[str]:
    """A narrower head beside the features of the same width, and beside all numbers of the features."""
    width, without = of.widths[0].width, {row.width: row for row in of.raw}
    if not without:
        return
    full = of.raw[0]
    parts = [f"{of.metric} {shown(of.widths[0].truncated, 'percent')} with the head"]
    if width in without and width != full.width:
        cut = without[width]
        parts.append(
            f"{shown(cut.reduced, 'percent')} with {raw_words(of)} cut to {counted(width, 'principal direction')} (the head adds {in_points(cut.reduced_gain)})"
        )
    parts.append(
        f"{shown(full.truncated, 'percent')} with all {full.width:,} numbers of {raw_words(of)} (the head adds {in_points(full.truncated_gain)})"
    )
    yield f"at {counted(width, 'number')} ({counted(of.queries, 'query')}): {'; '.join(parts)}"


def _raw_lines(of: Costs) -> Iterator[str]:
    """The table of the features without the head; nothing if they were not measured."""
    if not of.raw:
        return
    short = "frozen" if of.metric == "R@1" else "raw"
    adds = "head adds"
    yield from aligned(
        [
            ("width", f"{short}, first numbers", adds, f"{short}, principal directions", adds),
            *(
                (
                    str(row.width),
                    shown(row.truncated, "percent"),
                    in_points(row.truncated_gain),
                    shown(row.reduced, "percent"),
                    in_points(row.reduced_gain),
                )
                for row in of.raw
            ),
        ]
    )
    full, width = of.raw[0].width, of.widths[0].width
    words = f"{of.metric} of {raw_words(of)} for the same queries, with principal directions of their own, and what the head adds at the same width, in points"
    if full != width:
        words += f"; the first line compares all {full:,} numbers with all {width:,} of the head"
    yield words


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows of a table, columns flush right."""
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(size) for cell, size in zip(row, columns, strict=True))


def raw_words(of: Costs) -> str:
    """What the features without the head are called; R@1 is that of rows with classes."""
    return "the frozen features" if of.metric == "R@1" else "the raw model"


def _cost_row(of: WidthCost, full: int) -> tuple[str, ...]:
    first, leading = (
        shown(value, "percent") if of.width == full else _with_change(value, change)
        for value, change in (
            (of.truncated, of.truncated_change),
            (of.reduced, of.reduced_change),
        )
    )
    return (
        str(of.width),
        first,
        leading,
        _bytes(of.bytes_float32),
        _bytes(of.bytes_int8),
        shown(of.search_milliseconds, "milliseconds"),
    )


def _with_change(value: float, change: Interval) -> str:
    """`96.1 % (−1.2 ± 0.4)`."""
    none = change.half_width is None and change.mean == 0
    return f"{shown(value, 'percent')} ({'no change' if none else in_points(change)})"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2g}\u00a0GB" if count >= 1e9 else f"{count / 1e6:.0f}\u00a0MB"
