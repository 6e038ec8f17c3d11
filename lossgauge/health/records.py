"""How a rule makes its record: the level of a number by its limits, classes by their names, no advice where all is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lossgauge.health.finding import Finding, Level

MOST_NAMES = 5
"""Classes in one list."""


def level_of(value: float, limits: tuple[float, float]) -> Level:
    """The level of a value by its limits for watch and act: high is bad if they ascend, low is bad if they descend."""
    watch, act = limits
    sign = 1 if act > watch else -1
    if sign * value > sign * act:
        return "act"
    return "watch" if sign * value > sign * watch else "ok"


def finding(
    name: str,
    level: Level,
    subject: str,
    evidence: str,
    reference: str,
    *,
    why: str = "",
    advice: str = "",
) -> Finding:
    """The record; without `why` and `advice` if the level is `ok`."""
    if level == "ok":
        return Finding(name, level, subject, evidence, reference)
    return Finding(name, level, subject, evidence, reference, why, advice)


def classes_in_words(labels: Iterable[int], names: Mapping[int, str] | None = None) -> str:
    """`class cup`, `classes cup and mug`, `classes cup, mug, plate, spoon, fork and 3 more`.

    A class without a name is shown by its label.
    """
    called = [(names or {}).get(label, str(label)) for label in labels]
    if len(called) == 1:
        return f"class {called[0]}"
    more = len(called) - MOST_NAMES
    shown = called if more <= 0 else [*called[:MOST_NAMES], f"{more} more"]
    return f"classes {', '.join(shown[:-1])} and {shown[-1]}"
