"""A document that is near every query is found by a slow loop and by the study, and is named."""

from __future__ import annotations

import json

import numpy as np
import torch

from lossgauge.data.pairs import load
from lossgauge.study.examples.hub import found_by_raw_model, hub_of
from lossgauge.study.examples.row_source import RowSource


def written(path, *, with_hub):
    """Eighty queries beside their documents; with a hub, a document in the direction of all queries."""
    generator = np.random.default_rng(0)
    common = 2 * np.eye(12)[0]
    rows = []
    for number in range(80):
        query = generator.normal(size=12)
        row = {"query": (query + common).round(4).tolist()}
        row["positive"] = (query + 0.3 * generator.normal(size=12)).round(4).tolist()
        if with_hub and number == 7:
            row["negative"] = common.tolist()
        rows.append(row)
    path.write_text("\n".join(map(json.dumps, rows)))
    return load(path)


def test_a_hub_is_the_document_of_a_slow_loop(tmp_path):
    features = written(tmp_path / "pairs.jsonl", with_hub=True)
    pairs = features.pairs
    unit = torch.nn.functional.normalize(features.features.double())
    right = {
        (int(q), int(d))
        for q, d, g in zip(pairs.query, pairs.document, pairs.grade, strict=True)
        if g
    }
    counts = dict.fromkeys(pairs.corpus.tolist(), 0)
    for query in features.test.tolist():
        similar = {d: float(unit[query] @ unit[d]) for d in counts}
        for document in sorted(similar, key=lambda d: -similar[d])[:10]:
            counts[document] += (query, document) not in right
    found = found_by_raw_model(features)
    most = max(counts, key=lambda d: counts[d])
    assert int(pairs.corpus[found.most_found_row]) == most
    assert found.most_found == counts[most]
    hub = hub_of(
        features, RowSource(lambda row: f"document d{row}", None, lambda row: "a common text")
    )
    assert (hub.document, hub.text) == (f"d{most}", "a common text")
    assert f"of {counts[most]:,} of {len(features.test)} queries" in hub.evidence


def test_without_a_hub_nothing_is_named(tmp_path):
    generator = np.random.default_rng(1)
    rows = []
    for _ in range(80):
        query = generator.normal(size=12)
        right = query + 0.3 * generator.normal(size=12)
        rows.append({"query": query.round(4).tolist(), "positive": right.round(4).tolist()})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert hub_of(load(tmp_path / "pairs.jsonl"), RowSource(str, None)) is None
