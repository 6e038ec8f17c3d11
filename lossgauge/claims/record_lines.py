"""Records of claims as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from lossgauge.claims.records import ClaimRecord
from lossgauge.stats.number_format import counted
from lossgauge.terminal import wrapped


def record_lines(records: Sequence[ClaimRecord]) -> Iterator[str]:
    """Below the name of a dataset, or `over 2 datasets`, each claim with its verdict, reason and effect."""
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


def _group(record: ClaimRecord) -> tuple[bool, tuple[str, ...]]:
    return any(member["kind"] == "dataset" for member in record.members), record.datasets


def _lines(record: ClaimRecord) -> Iterator[str]:
    yield from wrapped(f"  {record.key}  {record.verdict}: {record.claim}")
    yield from (f"    {line}" for line in wrapped(f"{record.reason}."))
    # not the pairs below a contrast: they are in the JSON, and on the page
    for member, line in zip(record.members, record.evidence, strict=False):
        if member["kind"] != "pair":
            yield from (f"    {part}" for part in wrapped(line))
