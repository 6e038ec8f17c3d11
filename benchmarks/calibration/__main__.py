"""The calibration table: coverage, false claims and power of intervals in simulated studies.

python -m benchmarks.calibration                        all of it, resumable
python -m benchmarks.calibration --studies 200          quick
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.calibration.methods import (
    LOSS_SETS,
    METHODS,
    Intervals,
    better,
    bootstrap,
    contrasts,
    queries_only,
)
from benchmarks.calibration.studies import CLASSES, LEVELS, SPREADS, Condition, Studies, simulate
from benchmarks.calibration.tables import CHOSEN, markdown

CORRELATIONS = (0.0, 0.1, 0.4)
BOOTSTRAP_STUDIES, BOOTSTRAP_QUERIES = 300, 2_000
Row = dict[str, Any]


def conditions() -> list[Condition]:
    return [Condition(*cell) for cell in product(CLASSES, CORRELATIONS, SPREADS, LEVELS)]


def rows_of(condition: Condition, studies: int, seed: int = 0) -> list[Row]:
    """A row for each number of losses and of seeds, unit and method."""
    kept = BOOTSTRAP_STUDIES if _is_bootstrapped(condition) else 0
    rows: list[Row] = []
    for seeds, simulated in simulate(condition, studies, seed=seed, kept=kept).items():
        for losses, unit in product(LOSS_SETS, ("classes", "within", "queries")):
            if seeds == 1:
                methods = {"these heads": queries_only}
            else:
                methods = METHODS if unit == "classes" else {CHOSEN: METHODS[CHOSEN]}
            for name, method in methods.items():
                results = [
                    _judged(method(simulated, chosen, unit), simulated, chosen, unit, seeds == 1)
                    for chosen in LOSS_SETS[losses]
                ]
                rows.append(
                    {**condition._asdict(), "losses": losses, "seeds": seeds, "drawn": unit,
                     "method": name, **_summary(results)}
                )  # fmt: skip
        if kept and seeds > 1:
            rows += _bootstraps(condition, simulated, seeds)
    return rows


def _is_bootstrapped(condition: Condition) -> bool:
    return (
        condition.queries <= BOOTSTRAP_QUERIES
        and condition.level == "70 %"
        and condition.spread != "unequal"
    )


def _judged(
    found: Intervals, studies: Studies, losses: tuple[int, ...], unit: str, one_seed: bool
) -> dict[str, np.ndarray]:
    """By study and pair: covered, claimed, right; and whether the pair is a null one."""
    drawn = "within" if unit == "within" else "classes"
    of = studies.truth[{"within": "heads within", "classes": "heads"}[drawn] if one_seed else drawn]
    truth = of[: len(found.difference), losses] @ contrasts(losses).T
    with np.errstate(invalid="ignore"):
        covered = np.abs(found.difference - truth) <= found.half_width
        claimed = np.abs(found.difference) > found.half_width
    given = np.isfinite(found.half_width)
    return {
        "given": given,
        "covered": covered & given,
        "claimed": claimed & given,
        "right": claimed & given & (np.sign(found.difference) == np.sign(truth)),
        "half": found.half_width,
        "differs": np.broadcast_to(better(losses), given.shape),
    }


def _summary(results: list[dict[str, np.ndarray]]) -> Row:
    joined = {key: np.concatenate([r[key] for r in results], axis=1) for key in results[0]}
    given = joined["given"].sum(0)
    by_pair = joined["covered"].sum(0) / np.maximum(given, 1)
    null = ~joined["differs"][0]

    def percent(value: float) -> float:
        return round(100 * float(value), 1)

    return {
        "coverage": percent(joined["covered"].sum() / max(given.sum(), 1)),
        "worst_pair": percent(by_pair[given > 0].min() if (given > 0).any() else 1.0),
        "false_claims": percent((joined["claimed"] & ~joined["right"])[:, null].mean()),
        "power": percent(joined["right"][:, ~null].mean()),
        "half_width": round(100 * float(np.nanmedian(joined["half"])), 2) if given.any() else None,
        "without": percent(1 - joined["given"].mean()),
    }


def _bootstraps(condition: Condition, studies: Studies, seeds: int) -> list[Row]:
    generator = np.random.default_rng(seeds)
    rows = []
    for name, both in (("class bootstrap", False), ("pigeonhole", True)):
        results = [
            _judged(
                bootstrap(studies, pair, condition.queries, seeds=both, generator=generator),
                studies, pair, "classes", False,
            )
            for pair in LOSS_SETS[2]
        ]  # fmt: skip
        rows.append(
            {**condition._asdict(), "losses": 2, "seeds": seeds, "drawn": "classes", "method": name,
             **_summary(results)}
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of intervals in simulated studies.")
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("lossgauge-results/calibration"))
    parser.add_argument("--at-most", type=int, default=1_000, help="new conditions in this call")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    waiting = [c for c in conditions() if not (options.out / f"{c.name}.json").is_file()]
    for condition in waiting[: options.at_most]:
        path = options.out / f"{condition.name}.json"
        start = time.perf_counter()
        rows = rows_of(condition, options.studies)
        path.write_text(json.dumps(rows))
        print(f"{condition.name}: {time.perf_counter() - start:.0f} s", flush=True)
    if len(waiting) > options.at_most:
        return
    rows = [
        row
        for c in conditions()
        for row in json.loads((options.out / f"{c.name}.json").read_text())
    ]
    write(rows, options.out)


def write(rows: list[Row], folder: Path) -> None:
    """All rows as `table.parquet`, and the tables of docs/statistics.md as `tables.md`."""
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet", compression="zstd")
    (folder / "tables.md").write_text(markdown(rows) + "\n")
    print(f"{len(rows)} rows: table.parquet and tables.md in {folder}")


if __name__ == "__main__":
    main()
