"""What a study is measured by: of classes, or of queries and documents.

One record for each kind. Tables, figures, exports and texts take their columns, their titles and their meanings from the
record of the study (`StudyView.measures`), so that no other place knows which measures belong to which kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lossgauge.diagnostics.references import FROZEN
from lossgauge.results.columns import (
    COLUMNS,
    FURTHER,
    GREEDINESS,
    PAIR_RETRIEVAL,
    RETRIEVAL,
    VARIANCE,
    Column,
)
from lossgauge.types import Record

RAW_MODEL = "raw model"
"""What queries and documents call the frozen features: the same text embeddings without any head."""

OF_SOME_LOSSES = frozenset({"masked_negative_ratio", "penalty_active"})
"""Columns that one loss has alone: `gist`, `relaxed`. They are shown where a run has them."""


class Measures(NamedTuple):
    """The columns of one kind of study, in the order of its tables."""

    raw: str
    """The name of the features without any head: a space to compare with."""
    headline: tuple[Column, ...]
    """The two that losses are judged by; the first one ranks."""
    retrieval: tuple[Column, ...]
    """All of retrieval that a table shows, `headline` first."""
    space: tuple[Column, ...]
    """Geometry of the test side."""
    space_name: str
    """VARIANCE is about classes."""
    greediness: tuple[Column, ...]
    overview: tuple[str, ...]
    """The few of a data frame: `headline`, then two that a table of all datasets shows too."""
    tables: tuple[tuple[str, tuple[Column, ...]], ...]
    """Those of a page, with their titles."""
    further: tuple[tuple[str, tuple[Column, ...]], ...]
    """In a folded part of it: each is as wide as a laptop and a printed page allow."""
    predictors: tuple[str, ...]
    """Diagnostics of the training side that may go with `predicted`."""
    predicted: str
    judges_classes: bool
    """Whether intra, compaction and the claims of the paper are about this study."""

    def among(self, measured: Iterable[str]) -> Measures:
        """Without the columns of OF_SOME_LOSSES that are not measured."""
        absent = OF_SOME_LOSSES - {*measured}

        def kept(columns: Iterable[Column]) -> tuple[Column, ...]:
            return tuple(column for column in columns if column.name not in absent)

        def tables(
            of: tuple[tuple[str, tuple[Column, ...]], ...],
        ) -> tuple[tuple[str, tuple[Column, ...]], ...]:
            return tuple((title, kept(columns)) for title, columns in of)

        return self._replace(
            greediness=kept(self.greediness),
            tables=tables(self.tables),
            further=tables(self.further),
        )


_SPENDS = "GREEDINESS: how the loss spends its updates"


def _named(*names: str) -> tuple[Column, ...]:
    return tuple(COLUMNS[name] for name in names)


def _without(columns: Iterable[Column], *left_out: str) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.name not in left_out)


def _of_classes() -> Measures:
    # what fits beside the names on a laptop; compaction, which the answer uses, comes first
    first = _named(
        *("compaction_epochs", "term_active_ratio", "gradient_active_ratio", "mean_weight"),
        *("embedding_gradient", "decay_epochs"),
    )
    others = [column for column in (*GREEDINESS, *FURTHER) if column not in first]
    gradients = [c for c in others if "gradient" in c.name or c.name in ("pull", "push")]
    rest = [c for c in others if c not in gradients]
    return Measures(
        raw=FROZEN,
        headline=RETRIEVAL,
        retrieval=RETRIEVAL,
        space=VARIANCE,
        space_name="VARIANCE",
        greediness=GREEDINESS,
        overview=(*(column.name for column in RETRIEVAL), "test_intra", "compaction_epochs"),
        tables=(
            ("Retrieval and VARIANCE: the space at the end", (*RETRIEVAL, *VARIANCE)),
            (_SPENDS, first),
        ),
        further=(
            ("Retrieval, further", tuple(c for c in rest if c.group == "retrieval")),
            ("The space, further", tuple(c for c in rest if c.group == "variance")),
            ("Gradients", tuple(gradients)),
            (
                "Other readings",
                tuple(c for c in rest if c.group not in ("retrieval", "variance")),
            ),
        ),
        predictors=(
            *(column.name.replace("test_", "train_") for column in VARIANCE),
            "train_effective_rank",
            *(c.name for c in _without(GREEDINESS, "decay_epochs", "compaction_epochs")),
        ),
        predicted="map_at_r",
        judges_classes=True,
    )


_MEANINGS_OF_PAIRS = {
    "ndcg_at_10": "Grades of the first 10 documents of a query, discounted by log2(rank + 1), divided by the largest possible value; mean over test queries. 100 % is perfect; compare it with the raw model.",
    "found_at_1": "Share of the right documents of a query that come first, mean over test queries: Recall@1 as in lossgauge diagnose. Where each query has one right document, it is also the share of queries whose first document is right.",
    "test_effective_rank": "How many directions the test queries and their right documents use. Below 2 the space has collapsed to about one direction.",
    "test_uniformity": "How evenly the sphere is filled: −4 means nearly uniform, 0 means one point. It does not show a collapse to few directions.",
    "test_hubness": "Skew of how often a document is among the 10 nearest of another document: 0 is symmetric, above 1 some documents are found by very many.",
    "term_active_ratio": "Share of the loss's terms (queries, or triplets of a query, a right and a wrong document) that are above zero, mean over training. Softmax losses such as mnrl stay near 100 % by construction.",
    "gradient_active_ratio": "Share of the rows of a batch, queries and documents, whose gradient is above 1 % of the run's starting gradient, mean over training. High means many updates, low means few.",
    "embedding_gradient": "Length of the gradient that one embedding gets, mean over queries, documents and training: the size of an update. Temperature and scale multiply it, so a comparison of losses is valid only for the given settings.",
    "penalty_active": "Share of queries whose least similar right document is above the threshold of relaxed, so that its penalty pushes, mean over training.",
    "masked_negative_ratio": "Share of wrong documents in a batch that gist leaves out because the raw model, its guide, ranks them above the right one, mean over training.",
    "decay_epochs": "Epochs until the loss has fallen to 10 % of its first value. Many losses have a floor above that, so “not reached” is normal for them.",
    "loss_gradient": "Length of the gradient at the loss's own parameters. Most losses have none: —.",
    "pull": "Length of the part of the gradient that pulls a query and its right documents together, mean over training.",
    "push": "Length of the part of the gradient that pushes a query and other documents apart, mean over training. Compare it with pull to see what the loss uses its force for.",
}  # fmt: skip
"""Where the meaning in COLUMNS is that of classes."""


def _of_pairs() -> Measures:
    def column(name: str) -> Column:
        of = COLUMNS[name]
        return of._replace(meaning=_MEANINGS_OF_PAIRS.get(name, of.meaning))

    headline = tuple(column(of.name) for of in PAIR_RETRIEVAL)
    retrieval = (*headline, *(column(f"found_at_{k}") for k in (1, 10, 100)))
    space = tuple(
        column(f"test_{name}")
        for name in ("pair_alignment", "uniformity", "anisotropy", "hubness", "effective_rank")
    )
    spends = tuple(
        column(name)
        for name in (
            *("term_active_ratio", "gradient_active_ratio", "mean_weight"),
            *("masked_negative_ratio", "penalty_active", "embedding_gradient", "decay_epochs"),
        )
    )
    gradients = ("head_gradient", "loss_gradient", "pull", "push")
    greediness = (*spends[:-1], *map(column, gradients), spends[-1])
    return Measures(
        raw=RAW_MODEL,
        headline=headline,
        retrieval=retrieval,
        space=space,
        space_name="Space",
        greediness=greediness,
        overview=(*(of.name for of in headline), "found_at_1", "found_at_10"),
        tables=(
            ("The space of test queries and their right documents", space),
            (_SPENDS, spends),
        ),
        further=(
            (
                "Gradients",
                tuple(
                    map(
                        column,
                        (
                            *gradients,
                            "gradient_active_ratio_low",
                            "gradient_active_ratio_high",
                            "gradient_per_active",
                        ),
                    )
                ),
            ),
            (
                "Other readings",
                tuple(
                    map(
                        column,
                        (
                            *("effective_share", "floor_decay_epochs", "loss_value"),
                            *("selected_epoch", "step_milliseconds", "probe_share"),
                        ),
                    )
                ),
            ),
        ),
        predictors=(
            *("train_uniformity", "train_effective_rank"),
            *(c.name for c in _without(greediness, "decay_epochs")),
        ),
        predicted="ndcg_at_10",
        judges_classes=False,
    )


OF_CLASSES, OF_PAIRS = _of_classes(), _of_pairs()


def measures_of(row: Record) -> Measures:
    """Those of the study that a row of a run or of a reference space is from."""
    return OF_PAIRS if row.get("ndcg_at_10") is not None else OF_CLASSES
