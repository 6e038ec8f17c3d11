"""What a study that tunes and varies its losses has beside the made-up one: made up likewise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossgauge.types import Record, Results

SETTINGS: dict[str, dict[str, float]] = {
    "contrastive": {"margin": 1.0},
    "triplet": {"margin": 0.2},
    "n_pair": {"temperature": 1.0},
    "info_nce": {"temperature": 0.1},
    "arcface": {"margin": 0.5, "scale": 64.0},
    "scl": {"temperature": 0.1},
    "ccl": {"margin": 0.2, "scale": 32.0},
}
GAINS = {
    "contrastive": 0.03,
    "triplet": 0.004,
    "n_pair": -0.006,
    "info_nce": 0.012,
    "arcface": 0.045,
    "scl": 0.002,
    "ccl": 0.02,
}
"""What tuning adds to R@1."""
TRIALS = 12


def with_tuned(results: Results) -> Results:
    """A tuned row a run and its trials; of the last loss on the first dataset every trial failed."""
    datasets = list(dict.fromkeys(row["dataset"] for row in results.summaries))
    losses = [loss["name"] for loss in results.plan["losses"]]
    trials: list[Record] = []
    tuned: list[Record] = []
    for number, dataset in enumerate(datasets):
        for loss in losses:
            columns = {"dataset": dataset, "base": loss, "loss": f"{loss}(tuned)"}
            if number == 0 and loss == losses[-1] and len(losses) > 1:
                lost = {"trial": None, "settings": "", "objective": None, "trials": 3, "failed": 3}
                error = "all 3 trials failed: the loss became NaN in epoch 1"
                tuned.append({**columns, **lost, "default_objective": None, "error": error})
                continue
            made = _trials(columns, number, loss)
            best = max((t for t in made if t["objective"] is not None), key=_objective)
            words = ", ".join(
                f"{key.removeprefix('setting_')}={value:.3g}"
                for key, value in best.items()
                if key.startswith("setting_")
            )
            chosen = {"trial": best["trial"], "settings": words, "objective": best["objective"]}
            counts = {"default_objective": made[0]["objective"], "trials": TRIALS, "failed": 1}
            trials += made
            tuned.append({**columns, **chosen, **counts})
    found = {(row["dataset"], row["base"]) for row in tuned if row["trial"] is not None}
    plan = {"tune": {"trials": TRIALS, "epochs": None, "sampler": "tpe", "learning_rate": None}}
    return results._replace(
        plan={**results.plan, **plan, "selection": "last", "selection_metric": "map_at_r"},
        summaries=_as_variant(results.summaries, found),
        epochs=_as_variant(results.epochs, found),
        trials=trials,
        tuned=tuned,
    )


def with_sensitivity(results: Results, factors: tuple[float, ...]) -> Results:
    """Each loss again at multiples of each of its settings: a larger one keeps more variance."""
    rows: list[Record] = []
    for row in results.summaries:
        if row["variant"] != "default":
            continue
        for setting, value in SETTINGS.get(row["base"], {}).items():
            for factor in factors:
                title = f"{row['base']}({setting}={value * factor:g})"
                step = math.log2(factor)
                moved = {
                    "test_intra": row["test_intra"] * factor**0.3,
                    "test_margin": row["test_margin"] - 0.05 * step,
                    "compaction_epochs": row["compaction_epochs"] * factor**0.4,
                    "embedding_gradient": row["embedding_gradient"] / factor,
                    "recall_at_1": row["recall_at_1"] - 0.006 * step**2,
                }
                names = {"loss": title, "run": f"{row['run']}_{factor}"}
                columns = {"variant": "sensitivity", "setting": setting, "factor": factor}
                rows.append({**row, **moved, **names, **columns, f"setting_{setting}": value})
    plan = {**results.plan, "sensitivity": list(factors)}
    return results._replace(plan=plan, sensitivity=rows)


def _as_variant(rows: list[Record], found: set[Any]) -> list[Record]:
    """`rows` as of the default, and tuned ones of the losses in `found`."""
    made = []
    for row in rows:
        base = row["base"]
        made.append(row)
        if (row["dataset"], base) not in found:
            continue
        done = 1.0 if "epoch" not in row else 1 - math.exp(-row["epoch"] / 4)
        names = {"loss": f"{base}(tuned)", "variant": "tuned"}
        tuned = {**row, **names, "run": f"{row['run']}_tuned"}
        wobble = 0.002 * math.sin(37.0 * row["seed"] + len(base))
        for column in ("recall_at_1", "map_at_r"):
            if row[column] is not None:
                tuned[column] = min(1.0, row[column] + (GAINS.get(base, 0.0) + wobble) * done)
        tuned["test_intra"] = row["test_intra"] * (1 - 0.2 * done)
        made.append(tuned)
    return made


def _trials(columns: Record, number: int, loss: str) -> list[Record]:
    generator = np.random.default_rng([number, len(loss)])
    made = []
    best = generator.uniform(-1, 1)
    for trial in range(TRIALS):
        step = 0.0 if trial == 0 else generator.uniform(-2, 2)
        rate = 1e-3 if trial == 0 else 1e-3 * 3 ** generator.uniform(-1, 1)
        settings = {f"setting_{k}": v * 2**step for k, v in SETTINGS.get(loss, {}).items()}
        row = {
            **columns,
            "run": f"{number}_{loss}_trial_{trial}",
            "variant": "trial",
            "seed": 1_000_000,
        }
        row |= {"trial": trial, "setting_learning_rate": rate, **settings}
        objective: float | None = (
            0.7 - 0.02 * (step - best) ** 2 - 0.03 * abs(math.log(rate / 1e-3))
        )
        if trial == TRIALS - 1:
            objective, row["error"] = None, "the loss became NaN in epoch 2"
        made.append({**row, "objective": objective, "validation_map_at_r": objective})
    return made


def _objective(row: Record) -> float:
    return float(row["objective"])
