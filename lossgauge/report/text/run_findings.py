"""The findings of a finished run of a study: its rows as the records that the health rules read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch

from lossgauge.diagnostics.variance import Geometry, PerClass
from lossgauge.health.finding import Finding, worst_first
from lossgauge.health.space import space_findings
from lossgauge.health.training import training_findings
from lossgauge.plan.loss import LossPlan
from lossgauge.results.columns import SETTING
from lossgauge.results.measures import measures_of
from lossgauge.stats.intervals import known
from lossgauge.types import Record

_OF_CLASSES = frozenset(
    {
        *("class-collapse", "neural-collapse", "not-separated", "same-place"),
        *("few-directions", "train-test-gap"),
    }
)
"""Findings that say nothing about queries and documents: a query and its right documents are meant to be one place, and how many
directions they need does not follow from their number."""

_WORDS_OF_PAIRS = (
    (" of different classes", ""),
    (" (about 2 between classes)", ""),
    ("a loss that pushes classes apart", "a loss with many negatives, such as `mnrl`"),
    (
        "so the classes are not apart by the margin",
        "so right documents are not nearer by the margin",
    ),
    ("while classes still touch", "while wrong documents are still near"),
    ("as classes separate", "as right and wrong documents separate"),
    ("`scl` or `info_nce`", "`mnrl` or `info_nce`"),
)
"""What the words of a finding are about queries and documents, where they are about classes."""


def run_findings(
    row: Record,
    epochs: Sequence[Record],
    classes: Sequence[Record] = (),
    *,
    plan: Mapping[str, object],
    loss: str,
) -> list[Finding]:
    """What the test side and the training of a run say about it, the worst first.

    `row` has the columns of `runs`, `epochs` and `classes` the rows of the run in these tables; without `classes`, nothing
    is said about single classes. `plan` is the study's, `loss` the name without settings.
    """
    space = _test_space(row, classes)
    # the width of a residual head is that of the features
    width = None if plan.get("head") == "residual" else _whole(plan.get("embedding_size"))
    found = space_findings(space, width=width) if space else []
    trained = [dict(epoch) for epoch in epochs if epoch["epoch"]]
    found += training_findings(
        trained,
        loss=loss,
        settings={
            name.removeprefix(SETTING): value
            for name, value in row.items()
            if name.startswith(SETTING) and value is not None
        },
        batch_size=_columns(plan, row),
        class_count=_whole(row.get("train_class_count")),
    )
    if not measures_of(row).judges_classes:
        found = [_of_pairs(one) for one in found if one.name not in _OF_CLASSES]
    return worst_first(found)


def _of_pairs(one: Finding) -> Finding:
    texts = {name: getattr(one, name) for name in ("evidence", "reference", "why", "advice")}
    for words, instead in _WORDS_OF_PAIRS:
        texts = {name: text.replace(words, instead) for name, text in texts.items()}
    return one._replace(**texts)


def _columns(plan: Mapping[str, object], row: Record) -> int | None:
    """The rows that an anchor is compared with: the batch, and the memory if the loss or the study has one."""
    size, memory = _whole(plan.get("batch_size")), _whole(plan.get("memory"))
    losses = plan.get("losses")
    for one in losses if isinstance(losses, Sequence) else ():
        loss = LossPlan.model_validate(one)
        if loss.title in (row.get("base"), row.get("loss")):
            size = size if loss.batch_size is None else loss.batch_size
            memory = memory if loss.memory is None else loss.memory
    return None if size is None else size + (memory or 0)


def _test_space(row: Record, classes: Sequence[Record]) -> Geometry | None:
    """The geometry of the test side from its columns; None if it was not measured."""
    numbers = {
        field.name: known(row.get(f"test_{field.name}"))
        for field in fields(Geometry)
        if field.name != "per_class"
    }
    if numbers["intra"] is None or numbers["inter"] is None:
        return None
    of_test = [of_class for of_class in classes if of_class["side"] == "test"]
    counts = ("class_count", "sample_count", "singleton_count")
    columns: Record = {
        name: int(value or 0) if name in counts else math.nan if value is None else value
        for name, value in numbers.items()
    }
    return Geometry(**columns, per_class=_per_class(of_test))


def _per_class(rows: Sequence[Record]) -> PerClass:
    def numbers(name: str) -> torch.Tensor:
        values = (row.get(name) for row in rows)
        return torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)

    def counts(name: str) -> torch.Tensor:
        return torch.tensor([int(row[name]) for row in rows], dtype=torch.int64)

    intra, margin = numbers("intra"), numbers("margin")
    return PerClass(
        label=counts("label"),
        size=counts("size"),
        intra=intra,
        margin=margin,
        nearest=counts("nearest"),
        spacing=numbers("spacing"),
        distance=margin + 2 * intra.sqrt(),  # not known for a class of one sample
    )


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None
