"""Batches of queries and documents: no duplicate texts, masks by judgements, mined negatives by an obvious loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lossgauge.errors import InputError
from lossgauge.study.run.pair_batches import (
    given_negatives,
    masks,
    mined_negatives,
    mined_shares,
    pair_batches,
    right_similarities,
)
from lossgauge.types import FeatureSet, PairRows

QUERIES, DOCUMENTS = 40, 90


def made(seed: int = 0) -> FeatureSet:
    """Every query has one to three right documents; queries 0 and 1 share one, query 2 has the text of a right document of query 4."""
    g = np.random.default_rng(seed)
    judged = {(q, QUERIES + 2 * q) for q in range(QUERIES)}
    judged |= {(q, QUERIES + 2 * q + 1) for q in range(0, QUERIES, 2)}
    judged.add((1, QUERIES))
    negatives = {(q, QUERIES + (2 * q + 7) % DOCUMENTS) for q in range(0, QUERIES, 3)} - judged
    query, document = (torch.tensor(side) for side in zip(*sorted(judged), strict=True))
    text = np.arange(QUERIES + DOCUMENTS)
    text[2] = text[QUERIES + 9]
    text[3] = text[4]  # two queries of one text
    pairs = PairRows(
        corpus=torch.arange(QUERIES, QUERIES + DOCUMENTS),
        query=query,
        document=document,
        grade=torch.ones(len(query)),
        negative_query=torch.tensor([q for q, _ in sorted(negatives)]),
        negative_document=torch.tensor([d for _, d in sorted(negatives)]),
        text=torch.from_numpy(text),
    )
    rows = g.normal(size=(QUERIES + DOCUMENTS, 5)).astype(np.float32)
    for q in range(QUERIES):  # right documents are near, one of them nearer
        for place, noise in ((2 * q, 0.3), (2 * q + 1, 0.6)):
            rows[QUERIES + place] = rows[q] + noise * g.normal(size=5)
    train, test = torch.arange(QUERIES - 10), torch.arange(QUERIES - 10, QUERIES)
    labels = torch.cat([torch.arange(QUERIES), torch.arange(DOCUMENTS) // 2])
    return FeatureSet(
        *("made", "none", torch.from_numpy(rows), labels, train, test, "given", "f" * 64, {}),
        pairs=pairs,
    )


def of(features: FeatureSet) -> PairRows:
    assert features.pairs is not None
    return features.pairs


def right_pairs(pairs: PairRows) -> set[tuple[int, int]]:
    return set(zip(pairs.query.tolist(), pairs.document.tolist(), strict=True))


def test_batches_are_full_have_no_text_twice_and_depend_on_seed_and_epoch_alone() -> None:
    features = made()
    pairs = of(features)
    settings = {"batch_size": 8, "candidates": given_negatives(pairs, features.train)}
    by_epoch = [pair_batches(pairs, features.train, seed=1, epoch=e, **settings) for e in (1, 1, 2)]
    for one, other in zip(by_epoch[0], by_epoch[1], strict=True):
        assert torch.equal(one.queries, other.queries)
        assert torch.equal(one.documents, other.documents)
    assert not torch.equal(by_epoch[0][0].queries, by_epoch[2][0].queries)
    given = set(zip(pairs.negative_query.tolist(), pairs.negative_document.tolist(), strict=True))
    seen: list[int] = []
    for batch in by_epoch[0]:
        seen += batch.queries.tolist()
        assert len(batch.queries) == 8
        texts = pairs.text[batch.queries].tolist() + pairs.text[batch.documents].tolist()
        assert len(set(texts)) == len(texts)
        chosen = zip(batch.queries.tolist(), batch.documents.tolist(), strict=False)
        assert set(chosen) <= right_pairs(pairs)
        for extra in batch.documents[8:].tolist():
            assert any((q, extra) in given for q in batch.queries.tolist())
    assert len(set(seen)) == len(seen) == 24
    assert any(len(batch.documents) > 8 for batch in by_epoch[0])


def test_masks_by_a_loop() -> None:
    features = made()
    pairs = of(features)
    for batch in pair_batches(pairs, features.train, batch_size=10, seed=0, epoch=1):
        positive, negative = masks(pairs, batch)
        for i, q in enumerate(batch.queries.tolist()):
            for j, d in enumerate(batch.documents.tolist()):
                right = (q, d) in right_pairs(pairs)
                assert bool(positive[i, j]) == right
                assert bool(negative[i, j]) == (not right and pairs.text[q] != pairs.text[d])


def test_mined_negatives_by_a_loop() -> None:
    features = made()
    pairs = of(features)
    found = mined_negatives(features, features.train, from_rank=3, to_rank=9)
    rows = features.features.double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    for at, q in enumerate(found.query.tolist()):
        able = [
            d
            for d in pairs.corpus.tolist()
            if (q, d) not in right_pairs(pairs) and pairs.text[d] != pairs.text[q]
        ]
        able.sort(key=lambda d: (-float(rows[q] @ rows[d]), d))
        assert found.document[at].tolist() == able[3:9]
        expected = [float(rows[q] @ rows[d]) for d in able[3:9]]
        np.testing.assert_allclose(found.similarity[at], expected, atol=1e-12)
    similar = right_similarities(features)
    for batch in pair_batches(
        *(pairs, features.train),
        batch_size=10,
        seed=0,
        epoch=3,
        candidates=found,
        per_query=2,
        right_similarity=similar,
        max_similarity=0.95,
    ):
        assert len(batch.documents) <= 30
        own = dict(zip(batch.queries.tolist(), batch.documents.tolist(), strict=False))
        for extra in batch.documents[10:].tolist():
            assert any(
                extra in found.document[found.query.tolist().index(q)]
                and float(rows[q] @ rows[extra])
                < float(rows[q] @ rows[d]) - 0.05 * abs(float(rows[q] @ rows[d]))
                for q, d in own.items()
            )


def test_the_share_of_false_negatives_by_a_loop() -> None:
    features = made(seed=4)
    pairs = of(features)
    found = mined_negatives(features, features.train, from_rank=0, to_rank=30)
    got = mined_shares(features, found, from_rank=0, to_rank=30, max_similarity=1.0)
    rows = features.features.double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    named = wrong = empty = 0
    for q in features.train.tolist():
        right = [d for query, d in right_pairs(pairs) if query == q]
        best = max(right, key=lambda d: float(rows[q] @ rows[d]))
        limit = float(rows[q] @ rows[best])
        mined = found.similarity[found.query.tolist().index(q)]
        empty += not (mined < limit).any()
        if len(right) > 1:
            able = [
                d for d in pairs.corpus.tolist() if d != best and pairs.text[d] != pairs.text[q]
            ]
            able.sort(key=lambda d: -float(rows[q] @ rows[d]))
            left = [d for d in able[:30] if float(rows[q] @ rows[d]) < limit]
            named += len(left)
            wrong += len(set(left) & set(right))
    assert wrong
    assert got.false == pytest.approx(wrong / named)
    assert got.without == pytest.approx(empty / len(features.train))


def test_too_few_queries_are_refused() -> None:
    features = made()
    with pytest.raises(
        InputError, match="at least two training queries with a right document, got 1"
    ):
        pair_batches(of(features), features.train[:1], batch_size=4, seed=0, epoch=1)
