"""The calibration rows as the Markdown tables of docs/statistics.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
CHOSEN, TODAY = "crossed, moderated", "t over seeds"


def markdown(rows: list[Row]) -> str:
    """All tables, each below its title."""
    usual = [r for r in rows if r["level"] == "70 %" and r["drawn"] == "classes"]
    parts = {
        "New seeds and new classes, hit rate 70 %": _by_size(usual),
        "By the spread of the losses between seeds": _by_spread(usual),
        "Hit rate 98.5 %": _by_size(
            [r for r in rows if r["level"] == "98.5 %" and r["drawn"] == "classes"]
        ),
        "One seed": _one_seed(rows),
        "The same classes, and classes that are ignored": _by_unit(rows),
        "Other methods": _by_method(usual),
    }
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts.items())


def _by_size(rows: list[Row]) -> str:
    """A row for each number of seeds and queries; ranges over losses, correlations and spreads."""
    lines = []
    for seeds in _values(rows, "seeds", least=2):
        for queries in _values(rows, "queries"):
            cell = [r for r in rows if (r["seeds"], r["queries"]) == (seeds, queries)]
            ours, now = _of(cell, CHOSEN), _of(cell, TODAY)
            lines.append(
                [seeds, f"{queries:,}", _range(ours, "coverage"), _worst(ours, "worst_pair", min),
                 _worst(ours, "false_claims", max), _range(now, "coverage"),
                 _worst(now, "false_claims", max), _mean(ours, "power"), _mean(now, "power"),
                 _mean(ours, "half_width"), _mean(now, "half_width")]
            )  # fmt: skip
    head = (
        "seeds", "queries", "coverage", "worst pair", "false claims", "t over seeds: coverage",
        "false claims", "power", "power of t", "half width", "of t",
    )  # fmt: skip
    return _table(head, lines)


def _by_spread(rows: list[Row]) -> str:
    lines = []
    for losses in _values(rows, "losses"):
        for spread in ("equal", "unequal", "one at 5x"):
            cell = _of([r for r in rows if r["losses"] == losses and r["spread"] == spread], CHOSEN)
            by_seeds = [
                [r for r in cell if r["seeds"] == seeds]
                for seeds in _values(rows, "seeds", least=2)
            ]
            lines.append(
                [losses, spread.replace("5x", "5 ×")]
                + [f"{_range(c, 'coverage')}; {_worst(c, 'worst_pair', min)}" for c in by_seeds]
            )
    seeds = [f"{count} seeds" for count in _values(rows, "seeds", least=2)]
    return _table(("losses", "spreads", *seeds), lines)


def _one_seed(rows: list[Row]) -> str:
    lines = []
    for level in ("70 %", "98.5 %"):
        for queries in _values(rows, "queries"):
            cell = [
                r for r in rows if (r["seeds"], r["level"], r["queries"]) == (1, level, queries)
            ]
            by_unit = [[r for r in cell if r["drawn"] == unit] for unit in ("classes", "within")]
            lines.append([level, f"{queries:,}", *(_range(c, "coverage") for c in by_unit)])
    return _table(("hit rate", "queries", "new classes", "the same classes"), lines)


def _by_unit(rows: list[Row]) -> str:
    lines = []
    for correlation in _values(rows, "correlation"):
        for unit, words in (
            ("classes", "new classes"),
            ("within", "the same classes"),
            ("queries", "new classes, but queries as units"),
        ):
            cell = [
                r
                for r in _of(rows, CHOSEN)
                if (r["correlation"], r["drawn"], r["level"]) == (correlation, unit, "70 %")
                and r["seeds"] >= 3
            ]
            lines.append(
                [correlation, words, _range(cell, "coverage"), _worst(cell, "false_claims", max)]
            )
    return _table(("correlation in classes", "drawn", "coverage", "false claims"), lines)


def _by_method(rows: list[Row]) -> str:
    """All methods where the bootstraps were tried: two losses, at most 2,000 queries."""
    tried = {(r["queries"], r["correlation"], r["spread"]) for r in _of(rows, "pigeonhole")}
    lines = []
    for method in (
        TODAY,
        "crossed",
        "crossed, Satterthwaite",
        CHOSEN,
        "class bootstrap",
        "pigeonhole",
    ):
        cell = [
            r
            for r in _of(rows, method)
            if r["losses"] == 2 and (r["queries"], r["correlation"], r["spread"]) in tried
        ]
        by_seeds = [[r for r in cell if r["seeds"] == s] for s in _values(rows, "seeds", least=2)]
        lines.append([method, *(_range(c, "coverage") for c in by_seeds), _mean(cell, "power")])
    seeds = [f"{count} seeds" for count in _values(rows, "seeds", least=2)]
    return _table(("method", *seeds, "power"), lines)


def _of(rows: Iterable[Row], method: str) -> list[Row]:
    return [r for r in rows if r["method"] == method]


def _values(rows: list[Row], key: str, least: float = 0) -> list[Any]:
    return sorted({r[key] for r in rows if r[key] >= least})


def _range(rows: list[Row], key: str) -> str:
    values = [r[key] for r in rows if r["without"] < 50]
    if not values:
        return "—"
    low, high = (f"{of(values):.0f}" for of in (min, max))
    return f"{low} %" if low == high else f"{low}–{high} %"


def _worst(rows: list[Row], key: str, of: Callable[[list[float]], float]) -> str:
    values = [r[key] for r in rows if r["without"] < 50]
    return f"{of(values):.1f} %" if values else "—"


def _mean(rows: list[Row], key: str) -> str:
    values = [r[key] for r in rows if r[key] is not None]
    if not values:
        return "—"
    mean = sum(values) / len(values)
    return f"{mean:.1f}" if key == "half_width" else f"{mean:.0f} %"


def _table(head: Iterable[str], lines: list[list[Any]]) -> str:
    head = list(head)
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
