"""README.md of an exported model: its numbers against loops, and names that would break its lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from lossgauge.data.embeddings import load as load_embeddings
from lossgauge.deployment.export import _Embeddings
from lossgauge.deployment.head import load_head
from lossgauge.deployment.model_card import compared, model_card


def test_a_number_has_an_interval_and_its_change_is_paired():
    generator = np.random.default_rng(0)
    before = generator.uniform(size=400)
    after = np.clip(before + generator.normal(0.05, 0.01, 400), 0, 1)
    of = compared("nDCG@10", after, before)
    assert of.change.mean == pytest.approx(after.mean() - before.mean(), abs=1e-12)
    # 1.966 is Student's quantile with 399 degrees of freedom
    expected = 1.966 * np.std(after - before, ddof=1) / 20
    assert of.change.half_width == pytest.approx(expected, rel=1e-3)
    assert of.with_head.half_width > 10 * of.change.half_width


def test_numbers_of_classes_are_those_of_loops(place):
    features = load_embeddings(place.vectors)
    head = load_head(place.head)
    embeddings, labels = head(features.features), features.labels[features.test]
    found = _Embeddings(embeddings[features.train], embeddings[features.test], labels).beside_raw(
        features
    )
    for at, rows in enumerate((embeddings, features.features)):
        cosine = torch.nn.functional.normalize(rows[features.test].double())
        cosine = (cosine @ cosine.T).fill_diagonal_(-2)
        order = cosine.argsort(dim=1, descending=True)
        first, ap = [], []
        for row in range(len(labels)):
            right = int((labels == labels[row]).sum()) - 1
            hits = (labels[order[row, :right]] == labels[row]).double()
            first.append(float(labels[order[row, 0]] == labels[row]))
            precision = hits.cumsum(0) / torch.arange(1, right + 1)
            ap.append(float((precision * hits).sum() / right))
        for one, values in zip(found, (first, ap), strict=True):
            assert one[1 + at].mean == pytest.approx(np.mean(values), abs=1e-9)
    assert [one.title for one in found] == ["R@1", "MAP@R"]


def test_names_stay_on_their_lines(place):
    manifest = load_head(place.head).manifest
    trained = manifest.trained.model_copy(update={"dataset": "a`\n---\nb", "chosen": "c\n# d"})
    card = model_card(
        manifest.model_copy(update={"trained": trained}), [], ["do\nnot"], ["at 3 numbers"]
    )
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front)["library_name"] == "sentence-transformers"
    assert "base_model" not in front  # given embeddings have none
    assert "on `a' --- b`, seed 1" in body
    assert "- Why this run: c # d\n- Note: do not\n" in body
    assert "\n- at 3 numbers\n- threshold: " in body
    assert "- Sides: all texts pass through the adapter." in body
