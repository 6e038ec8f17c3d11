"""Columns of stacked updates are those of each update alone, and those of numpy."""

import numpy as np
import pytest

from lossgauge.loop.samples import QUANTILES, class_counts, gradient_columns, length_columns

SIZES = (512, 512, 7, 1, 512, 7)


def test_gradients_and_lengths_of_equal_and_unequal_batches():
    generator = np.random.default_rng(0)
    batches = [generator.random((2, size)) for size in SIZES]
    norms = [batch[0] for batch in batches]
    for (columns, ascending), (of, tangents) in zip(
        gradient_columns(batches), batches, strict=True
    ):
        assert (ascending == np.sort(of)).all()
        assert columns["embedding_gradient"] == of.sum() / len(of)  # to the bit, as if alone
        assert columns["tangent_gradient"] == np.minimum(tangents, of).sum() / len(of)
        for name, share in QUANTILES.items():
            assert columns[name] == pytest.approx(np.quantile(of, share), rel=1e-14)
    for columns, of in zip(length_columns(norms), norms, strict=True):
        assert list(columns.values()) == [of.sum() / len(of), of.min(), of.max()]


def test_without_an_array_or_a_sample_nothing_is_known():
    for columns, ascending in gradient_columns([None, np.empty((2, 0))]):
        assert (columns, ascending) == ({}, None)
    for columns in length_columns([None, np.empty(0)]):
        assert set(columns.values()) == {None}
    assert class_counts([np.empty(0, dtype=int)]) == [(0, 0)]


def test_classes_and_lone_rows():
    generator = np.random.default_rng(0)
    labels = [generator.integers(0, size, size) for size in (*SIZES, 5)]
    labels.append(np.array([3], dtype=np.int32))
    for of, counts in zip(labels, class_counts(labels), strict=True):
        sizes = np.unique(of, return_counts=True)[1]
        assert counts == (len(sizes), (sizes == 1).sum())
