"""A finding: one thing about a space, a loss or the data that was checked, with its evidence and one thing to try."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from lossgauge.types import Record

Level = Literal["ok", "watch", "act"]

LEVELS: tuple[Level, ...] = ("ok", "watch", "act")
"""From good to bad: nothing to do; look at it; the result is of little use until it is changed."""


EMBED_CENTERED = "`lossgauge embed embeddings:FILE --frozen --center`"
"""The command that subtracts the mean of stored rows."""


class Finding(NamedTuple):
    """What one check found. A study, a probe and `lossgauge diagnose` give the same records."""

    name: str
    """The name of the check, such as `cone`. It stays the same between versions, and docs/findings.md has an entry for it."""
    level: Level
    subject: str
    """What it is about: a class by its name, a loss, a term, a parameter, or `the space`."""
    evidence: str
    """The number that shows it, in words."""
    reference: str
    """What is usual, or where the limit is."""
    why: str = ""
    """What causes it, and what follows from it. Empty if the level is `ok`."""
    advice: str = ""
    """One thing to try: a setting or a line of code. Empty if the level is `ok`."""

    @property
    def plain(self) -> Record:
        """As JSON can represent it."""
        return self._asdict()

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        line = f"{self.subject}: {self.evidence} ({self.reference})"
        return f"{line}. {self.why} Try: {self.advice}." if self.advice else f"{line}."


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings by level, `act` first; those of one level keep their order."""
    return sorted(findings, key=lambda finding: -LEVELS.index(finding.level))


def reached(findings: Iterable[Finding], level: Level) -> bool:
    """Whether a finding is at this level or a worse one."""
    return any(LEVELS.index(finding.level) >= LEVELS.index(level) for finding in findings)
