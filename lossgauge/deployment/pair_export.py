"""What an export measures of queries and documents: retrieval among the whole corpus, thresholds, and what widths cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from lossgauge.deployment.costs import Costs, pair_costs
from lossgauge.deployment.head import module_of
from lossgauge.deployment.manifest import HeadRecord
from lossgauge.deployment.model_card import Compared, compared
from lossgauge.diagnosis.source import from_arrays
from lossgauge.diagnosis.two_tables.judged import right_pairs, thresholds_of
from lossgauge.diagnosis.two_tables.judgements import Judgements
from lossgauge.diagnostics.pair_thresholds import PairThresholds
from lossgauge.heads import Normalized
from lossgauge.ranking.judged import FOUND_AT, JudgedRetrieval
from lossgauge.stats.crossed import Drawn, drawn_again, over_new_queries
from lossgauge.study.run.measure import RECALL_AT
from lossgauge.study.run.measure_pairs import (
    PairSpace,
    judged,
    judged_columns,
    pair_space,
    right_documents,
)
from lossgauge.types import FeatureSet, PairRows

KEPT = (
    *("ndcg_at_10", "mrr_at_10", "recall_at_1", "map_at_r"),
    *(f"found_at_{k}" for k in FOUND_AT),
)
"""Columns of a run that an export measures again."""


@dataclass(frozen=True)
class PairsOfHead:
    """The embeddings of a head, and which document is right for which query."""

    train: Tensor
    """Of the training queries and their right documents."""
    test: PairSpace
    """The test queries and the whole corpus."""
    pairs: PairRows
    clusters: Int64[np.ndarray, " queries"]
    """Test queries with the same number are connected by right documents, or by a class of the user."""
    drawn: Drawn
    """What a new test side would change: intervals are those of the study."""
    both_narrow: bool
    """Whether fewer numbers are possible: not if documents are the features themselves."""

    @cached_property
    def judged(self) -> JudgedRetrieval:
        """Every test query among the whole corpus."""
        return judged(self.test, self.pairs, RECALL_AT)

    def retrieval(self) -> dict[str, float]:
        """The columns `KEPT`, in [0, 1]."""
        found = judged_columns(self.judged)
        return {name: float(found[name]) for name in KEPT}

    def beside_raw(self, features: FeatureSet) -> list[Compared]:
        """nDCG@10, MRR@10 and Recall@k of the test queries, beside those of the features themselves."""
        raw = pair_space(
            Normalized(), Normalized(), features, self.test.rows, self.test.document_rows
        )
        after, before = self.judged.per_query, judged(raw, self.pairs, RECALL_AT).per_query
        of_both = {
            "nDCG@10": (after.ndcg_at_10, before.ndcg_at_10),
            "MRR@10": (after.reciprocal_rank_at_10, before.reciprocal_rank_at_10),
        } | {f"Recall@{k}": (after.found_at[k], before.found_at[k]) for k in FOUND_AT}
        interval_of = partial(over_new_queries, clusters=self.clusters, drawn=self.drawn)
        return [compared(title, *values, interval_of) for title, values in of_both.items()]

    def thresholds(self) -> PairThresholds | None:
        """From pairs of test queries with their right documents and with others; None if there is no such pair."""
        sides = [from_arrays(side) for side in (self.test.queries, self.test.documents)]
        asked = torch.isin(self.pairs.query, self.test.rows)
        judgements = Judgements(
            torch.searchsorted(self.test.rows, self.pairs.query[asked]).numpy(),
            torch.searchsorted(self.test.document_rows, self.pairs.document[asked]).numpy(),
            self.pairs.grade[asked].double().numpy(),
            0,
        )
        known = torch.arange(len(self.test.documents)).numpy()
        right = right_pairs(sides[0], sides[1], known, judgements)
        return thresholds_of(sides[0], sides[1], known, judgements, right, seed=0)

    def costs(self, features: FeatureSet) -> Costs:
        """By nDCG@10, beside those of the features themselves where fewer numbers are possible."""
        raw = _spaces(Normalized(), Normalized(), features) if self.both_narrow else None
        return pair_costs(
            *(self.train, self.test, self.pairs),
            clusters=self.clusters,
            drawn=self.drawn,
            raw=None if raw is None else (raw[0].both, raw[1]),
            widths=() if raw is None else None,
        )


def pairs_of_head(
    form: HeadRecord, tensors: Mapping[str, Tensor], features: FeatureSet
) -> PairsOfHead:
    """Both sides of the split, embedded by a head of this form."""
    pairs = cast(PairRows, features.pairs)
    head = module_of(form)
    head.load_state_dict(tensors)
    head.eval().requires_grad_(False)
    documents = Normalized() if form.sides == "query" else head
    train, test = _spaces(head, documents, features)
    clusters, trained = (features.labels[rows] for rows in (features.test, features.train))
    unseen = bool((~torch.isin(clusters, trained)).any())
    return PairsOfHead(
        train.both,
        test,
        pairs,
        clusters.numpy(),
        drawn_again(of_pairs=True, unseen=unseen),
        form.sides == "both",
    )


def _spaces(
    head: nn.Module, documents: nn.Module, features: FeatureSet
) -> tuple[PairSpace, PairSpace]:
    """The training queries with their right documents; the test queries with the whole corpus."""
    pairs = cast(PairRows, features.pairs)
    right = right_documents(pairs, features.train)
    return (
        pair_space(head, documents, features, features.train, right),
        pair_space(head, documents, features, features.test, pairs.corpus),
    )
