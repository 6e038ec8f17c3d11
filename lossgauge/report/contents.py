"""What a study has: its datasets, its losses as in the plan, and those of them that were tuned."""

from __future__ import annotations

from collections.abc import Iterator

from lossgauge.claims.standings import base_of, variant_of
from lossgauge.report.palette import UNTRAINED, loss_order
from lossgauge.types import Record, Results


def losses_of(results: Results) -> list[str]:
    """Losses of the plan that have a row or a failure, without `untrained`, tuned ones and sensitivity."""
    names = loss_order(str(row["loss"]) for row in _rows(results) if variant_of(row) == "default")
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


def _rows(results: Results) -> Iterator[Record]:
    for rows in (results.summaries, results.epochs, results.failures):
        yield from (row for row in rows if row.get("loss"))
