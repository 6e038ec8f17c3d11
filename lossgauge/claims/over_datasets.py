"""What several datasets say together of one claim: the verdicts counted, and what so few datasets cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lossgauge.claims.sentences import amount
from lossgauge.claims.verdicts import STATUSES, Status, Verdict
from lossgauge.stats.datasets import FEWEST_DATASETS, Summary, summarize
from lossgauge.stats.intervals import Interval
from lossgauge.stats.number_format import counted, in_p


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
    summary = summarize([of for verdict in verdicts if (of := verdict.effect)])
    if summary is not None:
        column = next(v.parts[0].contrast.column for v in verdicts if v.effect)
        reason += f"; {_effect_in_words(column, summary)}"
    if 0 < tested < FEWEST_DATASETS:
        reason += (
            f"; {counted(tested, 'tested dataset')} cannot show what holds on other datasets: that takes at "
            f"least {FEWEST_DATASETS}"
        )
    return OverDatasets(_status(counts, tested), reason, summary and summary.interval)


def _effect_in_words(column: str, of: Summary) -> str:
    """`mean effect +1.2 ± 0.8 points, I² = 64 % (p = 0.01 for equal effects)`."""
    words = f"mean effect {amount(column, of.interval)} over {counted(of.interval.size, 'dataset')}"
    share = f"{100 * of.heterogeneity:.0f} %"
    return f"{words}, I² = {share} ({in_p('p', of.heterogeneity_p_value)} for equal effects)"


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
