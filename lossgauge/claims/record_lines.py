"""Records of claims as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from lossgauge.claims.across_studies import Verdicts
from lossgauge.claims.records import ClaimRecord
from lossgauge.stats.number_format import counted
from lossgauge.terminal import wrapped

CORRECTION = (
    "Verdicts are after Holm's correction over all comparisons in one quantity on one dataset; a p-value without a corrected one "
    "was not changed by it. --json has each comparison and the size of its family."
)

KEY, VERDICT = 10, 14
"""Widths of the columns of verdicts side by side."""


def record_lines(records: Sequence[ClaimRecord]) -> Iterator[str]:
    """The verdicts in short; then, below the name of a dataset or `over 2 datasets`, each claim with its verdict, reason and effect."""
    yield from _in_short(records)
    for (over, datasets), of_group in groupby(records, key=_group):
        yield (
            f"over {counted(len(datasets), 'dataset')}: {', '.join(datasets)}"
            if over
            else datasets[0]
        )
        group = list(of_group)
        reasons = {record.reason for record in group}
        if not over and len(group) > len(reasons) == 1:  # of a dataset that could not be read
            yield from (f"  {line}" for line in wrapped(f"{group[0].verdict}: {group[0].reason}."))
            continue
        for record in group:
            yield from _lines(record)


def _in_short(records: Sequence[ClaimRecord]) -> Iterator[str]:
    """One line for each claim: its verdict on each dataset."""
    verdicts: dict[str, list[str]] = {}
    for record in records:
        if not record.is_over_datasets:
            verdicts.setdefault(record.key, []).append(f"{record.datasets[0]} {record.verdict}")
    for key, on_each in verdicts.items():
        yield from wrapped(f"claim {key}: {', '.join(on_each)}")
    if verdicts:
        yield from wrapped(CORRECTION)


def _group(record: ClaimRecord) -> tuple[bool, tuple[str, ...]]:
    return record.is_over_datasets, record.datasets


def _lines(record: ClaimRecord) -> Iterator[str]:
    yield from wrapped(f"  {record.key}  {record.verdict}: {record.claim}")
    yield from (f"    {line}" for line in wrapped(f"{record.reason}."))
    # not the pairs below a contrast: they are in the JSON, and on the page
    for member, line in zip(record.members, record.evidence, strict=False):
        if member["kind"] != "pair":
            yield from (f"    {part}" for part in wrapped(line))


def across_lines(
    rows: Sequence[Verdicts], folders: Sequence[str], differences: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """The studies with a number each, what differs between their plans, and a table of the verdicts for each dataset."""
    for number, folder in enumerate(folders, start=1):
        yield from wrapped(f"{number}  {folder}")
    for key, values in differences.items():
        where: dict[str, list[str]] = {}
        for number, value in enumerate(values, start=1):
            where.setdefault(value, []).append(str(number))
        of_each = (f"{value} in {', '.join(numbers)}" for value, numbers in where.items())
        yield from (f"   {line}" for line in wrapped(f"{key}: {'; '.join(of_each)}"))
    for dataset, of_dataset in groupby(rows, key=lambda row: row.dataset):
        group = list(of_dataset)
        yield ""
        yield dataset
        yield _row("", [str(number) for number, _ in enumerate(folders, start=1)])
        for row in group:
            if row.tested:
                line = _row(f"claim {row.key}", [verdict or "–" for verdict in row.of_studies])
                yield line + "  differs" * row.differs
        if untested := [row.key for row in group if not row.tested]:
            yield from (
                f"  {line}" for line in wrapped(f"tested in no study: {', '.join(untested)}")
            )
    tested = [row for row in rows if len(row.tested) > 1]
    differing = [row for row in tested if row.differs]
    yield ""
    yield f"verdicts that differ between the studies: {len(differing)} of {len(tested)}"
    for key, claim in dict.fromkeys((row.key, row.claim) for row in rows if row.tested):
        yield from wrapped(f"claim {key}: {claim}")


def _row(name: str, verdicts: Sequence[str]) -> str:
    return (f"  {name:{KEY}}" + "".join(f"{verdict:{VERDICT}}" for verdict in verdicts)).rstrip()
