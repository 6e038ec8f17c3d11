"""Two made-up studies whose queries are planted, so that the true difference of a loss is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lossgauge.results.run_files import RunFiles
from lossgauge.results.view import StudyView
from lossgauge.types import Record, Results

CLASSES = 10


class PlantedFiles(RunFiles):
    """The queries of runs that no folder has."""

    tables: dict[str, pa.Table]

    def has_queries(self, row: Record) -> bool:
        return row.get("run") in self.tables

    def queries_of(self, row: Record, columns: Any) -> pa.Table:
        table = self.tables[row["run"]]
        return table.select([name for name in columns if name in table.column_names])

    def has_unseen_classes(self, run: str) -> bool:
        return False


def planted_study(
    losses: dict[str, float],
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    queries: int = 400,
    first_query: int = 0,
    dataset: str = "digits",
    fingerprint: str = "f00d",
    luck: int = 0,
    plan: Record | None = None,
    environment: Record | None = None,
) -> StudyView:
    """A study in which a loss (its title → its ability) is right on a query that is easier than its ability.

    How hard a query is depends on the query only, so two studies with the same queries agree about it; `luck` draws
    what seeds and single answers add.
    """
    # of 0 … 9,999: the same for the same query
    hard = np.random.default_rng(99).normal(size=10_000)[first_query : first_query + queries]
    summaries: list[Record] = []
    tables: dict[str, pa.Table] = {}
    for number, (title, ability) in enumerate(losses.items()):
        name = title.partition("(")[0]
        for seed in seeds:
            generator = np.random.default_rng([luck, number, seed])
            level = ability + 0.01 * generator.normal() + 0.4 * generator.normal(size=queries)
            hit = level > hard
            ap = np.clip(0.5 + 0.2 * (level - hard), 0, 1)
            run = f"{dataset}_{title}_{seed}_{luck}_{ability}_{first_query}"
            tables[run] = pa.table(
                {
                    "query": np.arange(first_query, first_query + queries, dtype=np.int32),
                    "label": np.arange(first_query, first_query + queries) % CLASSES,
                    "first_right_rank": np.where(hit, 1, 20).astype(np.int32),
                    "hit_at_1": hit,
                    "ap_at_r": ap,
                    "r_precision": ap,
                }
            )
            summaries.append(
                {
                    "run": run,
                    "dataset": dataset,
                    "loss": title,
                    "base": title,
                    "variant": "default",
                    "seed": seed,
                    "fingerprint": fingerprint,
                    "recall_at_1": float(hit.mean()),
                    "map_at_r": float(ap.mean()),
                    "test_intra": 0.3 + 0.1 * ability + 0.01 * generator.normal(),
                    "test_inter": 0.8,
                    "name": name,
                }
            )
    planned = []
    for title in losses:
        name, _, settings = title.partition("(")
        of = dict(part.split("=") for part in settings.rstrip(")").split(", ") if part)
        planned.append({"name": name, "settings": {key: float(v) for key, v in of.items()}})
    results = Results(
        plan={"datasets": [dataset], "losses": planned, "seeds": list(seeds), **(plan or {})},
        assumptions={},
        summaries=summaries,
        epochs=[],
        references=[],
        left_out=[],
        failures=[],
        environment=environment or {"lossgauge": "0.1.0", "torch": "2.13.0"},
    )
    configs = {
        row["run"]: {"dataset": dataset, "loss": row["name"], "code": "c0de"} for row in summaries
    }
    files = PlantedFiles(Path("nowhere"), (), configs, {}, {})
    files.tables = tables
    return StudyView(results, files)
