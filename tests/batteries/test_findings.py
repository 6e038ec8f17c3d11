"""Findings about real training runs: planted faults are found, and healthy runs give no alarm. About five minutes.

docs/findings.md shows the table.

    python -m pytest tests/batteries/test_findings.py -m slow
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from lossgauge.losses.registry import LOSSES
from tests.support.planted_faults import (
    CALIBRATION,
    FAULTS,
    REPORTED,
    Rows,
    findings,
    load,
    planted,
    train,
)

pytestmark = pytest.mark.slow

MOST_FALSE_ALARMS = 1
"""Findings `act` in all healthy runs together."""


def available(names: Sequence[str]) -> list[Rows]:
    return [rows for name in names if (rows := load(name)) is not None]


def alarms(sets: Iterable[Rows], seeds: Sequence[int]) -> tuple[int, dict[str, list[str]]]:
    """The number of healthy runs, and level → `finding: loss on set, seed` for all that is not `ok`."""
    count, raised = 0, {"watch": [], "act": []}
    for rows in sets:
        for loss in LOSSES:
            for seed in seeds:
                count += 1
                for found in findings(train(rows, loss, seed=seed)):
                    if found.level != "ok":
                        words = (
                            f"{found.name}: {loss} on {rows.name}, seed {seed} ({found.evidence})"
                        )
                        raised[found.level].append(words)
    return count, raised


def show(capsys, lines: Iterable[str]) -> None:
    with capsys.disabled():
        print("", *lines, sep="\n")


@pytest.mark.parametrize(
    ("sets", "seeds"),
    [(CALIBRATION, (100, 101)), (REPORTED, (0, 1))],
    ids=["calibration", "reported"],
)
def test_healthy_runs_give_no_alarm(sets, seeds, capsys):
    count, raised = alarms(available(sets), seeds)
    show(
        capsys,
        [
            f"{count} healthy runs: {len(raised['act'])} findings `act`, {len(raised['watch'])} `watch`",
            *(f"  {level} {words}" for level in ("act", "watch") for words in raised[level]),
        ],
    )
    assert len(raised["act"]) <= MOST_FALSE_ALARMS


def test_planted_faults_are_found(capsys):
    sets = available(REPORTED)
    lines = ["| finding | planted | `act` | `watch` | missed |", "|---|---|---|---|---|"]
    missed = []
    for fault in FAULTS:
        levels = {rows.name: planted(fault, rows, 0) for rows in sets}
        counts = [list(levels.values()).count(level) for level in ("act", "watch", "ok")]
        lines.append(f"| `{fault.finding}` | {fault.words} | {' | '.join(map(str, counts))} |")
        missed += [f"{fault.words} on {name}" for name, level in levels.items() if level == "ok"]
    show(
        capsys,
        [
            *lines,
            f"{len(FAULTS) * len(sets)} planted, {len(missed)} missed:",
            *missed,
        ],
    )
    assert len(missed) <= len(FAULTS) * len(sets) // 20
