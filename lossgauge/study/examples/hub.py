"""The document that the raw model finds for too many test queries, if there is one."""

from __future__ import annotations

import torch

from lossgauge.diagnostics.found_documents import FoundDocuments, found_documents
from lossgauge.health.retrieval import LEAST_ROWS, hub_finding
from lossgauge.ranking.judged import pairs_of
from lossgauge.ranking.query_set import QuerySet
from lossgauge.ranking.scores import norms_and_directions
from lossgauge.ranking.search import neighbor_blocks
from lossgauge.results.query_changes import LONGEST_TEXT, Hub
from lossgauge.study.examples.row_source import RowSource
from lossgauge.study.run.pair_batches import unranked
from lossgauge.types import FeatureSet

NEIGHBORS = 10


def hub_of(features: FeatureSet, source: RowSource) -> Hub | None:
    """The hub with its id and text; None if no document is found by more queries than usual, or with few queries or documents."""
    assert features.pairs is not None
    if min(len(features.test), len(features.pairs.corpus)) < LEAST_ROWS:
        return None
    found = found_by_raw_model(features)
    row = int(features.pairs.corpus[found.most_found_row])
    name = source.id_of(row).removeprefix("document ")
    finding = hub_finding(found, name)
    if finding.level == "ok":
        return None
    text = source.words(row)[:LONGEST_TEXT] if source.words is not None else ""
    return Hub(document=name[:LONGEST_TEXT], text=text, evidence=finding.evidence)


def found_by_raw_model(features: FeatureSet) -> FoundDocuments:
    """How often each document is among the 10 nearest of a test query. A document with the query's own text is left out."""
    pairs, asked = features.pairs, features.test
    assert pairs is not None
    _, directions = norms_and_directions(features.features[torch.cat([pairs.corpus, asked])])
    documents, queries = len(pairs.corpus), torch.arange(len(asked))
    place, column = unranked(pairs, asked, right_too=False)
    out = pairs_of(place, column, queries=len(asked))
    of = QuerySet(directions, queries + documents, documents, (out,), documents - out.counts)
    k = min(NEIGHBORS, int((documents - out.counts).min()))
    blocks = neighbor_blocks(of, queries, counts=torch.full((len(asked),), k))
    neighbors = torch.cat([block.columns[:, :k] for block in blocks])
    rows = len(pairs.text)
    right = pairs.grade > 0
    keys = (pairs.query * rows + pairs.document)[right]
    wanted = asked[:, None] * rows + pairs.corpus[neighbors]
    return found_documents(neighbors, documents, torch.isin(wanted, keys))
