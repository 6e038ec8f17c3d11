"""What a study has: its datasets, its losses as in the plan, and those of them that were tuned."""

from __future__ import annotations

from collections.abc import Iterator

from lossgauge.claims.variants import base_of, variant_of
from lossgauge.report.naming import UNTRAINED, loss_order
from lossgauge.types import Record, Results


def losses_of(results: Results) -> list[str]:
    """Losses of the plan that have a row or a failure, without `untrained`, tuned ones and sensitivity."""
    names = loss_order({str(row["loss"]) for row in _rows(results) if variant_of(row) == "default"})
    return [name for name in names if name != UNTRAINED]


def tuned_of(results: Results) -> dict[str, str]:
    """Loss as in the plan → title of its tuned form, where that has a row or a failure."""
    found = {base_of(row): str(row["loss"]) for row in _rows(results) if variant_of(row) == "tuned"}
    return {base: found[base] for base in loss_order(found)}


def losses_and_tuned(results: Results) -> list[str]:
    """`losses_of`, each tuned form behind its loss."""
    return loss_order([*losses_of(results), *tuned_of(results).values()])


def datasets_of(results: Results) -> list[str]:
    """Datasets with a row or a failure, in the order of the plan or, without one there, of the rows."""
    rows = [*results.summaries, *results.epochs, *results.failures]
    seen = list(dict.fromkeys(str(row["dataset"]) for row in rows if row.get("dataset")))
    planned = results.plan.get("datasets")
    first = [str(name) for name in planned] if isinstance(planned, list | tuple | dict) else []
    return [name for name in first if name in seen] + [name for name in seen if name not in first]


def seeds_of(results: Results, dataset: str) -> set[int]:
    """Seeds of the losses of a dataset, failed and waiting ones among them."""
    rows = [*results.summaries, *results.failures, *results.waiting]
    return {
        int(row["seed"])
        for row in rows
        if row.get("dataset") == dataset and variant_of(row) in ("default", "tuned")
    }


def settled_seeds(results: Results, dataset: str) -> set[int]:
    """Seeds that most losses have finished: what a loss must have to be set before others.

    Of a study at work, the last seed may be that of a few losses.
    """
    finished = [
        (int(row["seed"]), str(row["loss"]))
        for row in results.summaries
        if row["dataset"] == dataset
        and variant_of(row) == "default"
        and row.get("loss") not in (None, UNTRAINED)
    ]
    losses = {loss for _, loss in finished}
    seeds = {seed for seed, _ in finished}
    of_seed = {seed: {loss for s, loss in finished if s == seed} for seed in seeds}
    return {seed for seed in seeds if 2 * len(of_seed[seed]) > len(losses)}


def _rows(results: Results) -> Iterator[Record]:
    for rows in (results.summaries, results.epochs, results.failures):
        yield from (row for row in rows if row.get("loss"))
