"""Rows of a study that any claim can be put to, with the numbers one wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lossgauge.claims.statements import CLAIMS
from lossgauge.types import Record, Results

SEEDS = (0, 1, 2)
LOSSES = ("contrastive", "triplet", "n_pair", "info_nce", "arcface", "scl", "ccl")
CLAIM = {claim.key: claim for claim in CLAIMS}
QUANTITIES = tuple(
    dict.fromkeys(
        column
        for claim in CLAIMS
        for column in (
            *(contrast.column for contrast in claim.contrasts),
            *(column for ordering in claim.orderings for column in (ordering.x, ordering.y)),
        )
    )
)
"""Columns that a claim looks at."""


def row(loss: str, seed: int, **columns: object) -> Record:
    """A summary row; what is not given is 0.5."""
    named = {"run": f"{loss}_{seed}", "dataset": "d", "loss": loss, "base": loss, "seed": seed}
    return {**dict.fromkeys(QUANTITIES, 0.5), **named, "variant": "default", **columns}


def study(rows: Sequence[Record], **parts: list[Record]) -> Results:
    """Results that have these summaries and whatever else is named."""
    made = Results({}, {}, list(rows), [], [], [], [], {})._replace(**parts)
    return made._replace(plan={"losses": plan_of(made)})


def plan_of(results: Results) -> list[Record]:
    """The losses of a plan whose titles are the bases of the rows."""
    parts = (results.summaries, results.sensitivity, results.failures, results.waiting)
    bases = dict.fromkeys(row["base"] for rows in parts for row in rows)
    plan = []
    for base in bases:
        name, _, settings = base.removesuffix(")").partition("(")
        pairs = [pair.split("=") for pair in settings.split(", ") if pair]
        plan.append({"name": name, "settings": {key: float(value) for key, value in pairs}})
    return plan


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
