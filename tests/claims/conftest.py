"""Rows of a study that any claim can be put to, with the numbers one wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lossgauge.claims.statements import CLAIMS, QUANTITIES
from lossgauge.types import Record, Results

SEEDS = (0, 1, 2)
LOSSES = ("contrastive", "triplet", "n_pair", "info_nce", "arcface", "scl", "ccl")
CLAIM = {claim.key: claim for claim in CLAIMS}


def row(loss: str, seed: int, **columns: object) -> Record:
    """A summary row; what is not given is 0.5."""
    named = {"run": f"{loss}_{seed}", "dataset": "d", "loss": loss, "seed": seed}
    return {**dict.fromkeys(QUANTITIES, 0.5), **named, **columns}


def study(rows: Sequence[Record], **parts: list[Record]) -> Results:
    """Results that have these summaries and whatever else is named."""
    return Results({}, {}, list(rows), [], [], [], [], {})._replace(**parts)


def random_study(seed: int = 0, *, losses: Sequence[str] = LOSSES, seeds=SEEDS) -> Results:
    """Every quantity of every run drawn anew: some comparisons are told apart, most are not."""
    generator = np.random.default_rng(seed)
    levels = {loss: generator.random(len(QUANTITIES)) for loss in losses}
    rows = [
        row(
            loss,
            s,
            protocol="class-disjoint",
            **dict(
                zip(QUANTITIES, levels[loss] + 0.1 * generator.random(len(QUANTITIES)), strict=True)
            ),
        )
        for s in seeds
        for loss in losses
    ]
    return study(rows)


def set_column(results: Results, column: str, values: Mapping[str, Sequence[float | None]]) -> None:
    """Give losses a value a seed in one column."""
    for r in results.summaries:
        if r["loss"] in values:
            r[column] = values[r["loss"]][r["seed"]]
