"""What several datasets say together of one claim: the verdicts counted, and what so few datasets cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lossgauge.claims.verdicts import STATUSES, Status, Verdict
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted

FEWEST = 6
"""With fewer datasets, not even the same side on all of them is significant: 2 · ½⁵ = 0.0625 for five, 0.031 for six."""


class OverDatasets(NamedTuple):
    status: Status
    reason: str
    effect: Interval | None
    """Over datasets; None if there is no summary of the effects."""


def over_datasets(verdicts: Sequence[Verdict]) -> OverDatasets:
    """The verdicts of one claim, one for each dataset, as one.

    `supported` or `contradicted` only if it is so on every dataset where it was tested; `mixed` if there are both, or a
    dataset where it is mixed; otherwise `undecided`.
    """
    statuses = [verdict.status for verdict in verdicts]
    counts = {status: statuses.count(status) for status in STATUSES}
    words = ", ".join(f"{status} on {count}" for status, count in counts.items() if count)
    tested = len(statuses) - counts["not tested"]
    reason = f"{words} of {counted(len(statuses), 'dataset')}"
    if 0 < tested < FEWEST:
        reason += (
            f"; {counted(tested, 'tested dataset')} cannot show what holds on other datasets: that takes at "
            f"least {FEWEST}"
        )
    effect = summary_effect([verdict.effect for verdict in verdicts])
    return OverDatasets(_status(counts, tested), reason, effect)


def summary_effect(effects: Sequence[Interval | None]) -> Interval | None:
    """The mean effect over datasets with its interval. Not computed yet: None."""
    return None


def _status(counts: dict[Status, int], tested: int) -> Status:
    if not tested:
        return "not tested"
    if counts["supported"] == tested:
        return "supported"
    if counts["contradicted"] == tested:
        return "contradicted"
    if counts["mixed"] or (counts["supported"] and counts["contradicted"]):
        return "mixed"
    return "undecided"
