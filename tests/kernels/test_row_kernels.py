import numpy as np
import pytest

from lossgauge.kernels.nearest import NearestTask, keep_nearest
from lossgauge.kernels.row_block import RowBlock, pass_rows


def block(rows, group, classes):
    count, width = rows.shape
    keys = np.random.default_rng(9).integers(0, 2**63, width, dtype=np.uint64) | np.uint64(1)
    return RowBlock(
        rows.astype(np.float32),
        group.astype(np.int64),
        np.linspace(-0.1, 0.1, width),
        np.empty((count, width), np.float32),
        np.empty(count),
        np.empty(count, np.uint64),
        keys,
        np.zeros(classes),
        np.zeros((classes, width)),
        np.zeros(classes),
    )


@pytest.mark.parametrize("width", [1, 5, 130])
def test_one_pass_equals_numpy(width):
    generator = np.random.default_rng(width)
    rows = (generator.normal(size=(70, width)) + 50).astype(np.float32)
    group = generator.integers(0, 4, 70)
    rows[[3, 20]] = 0
    of = block(rows, group, 5)
    assert pass_rows(of) == -1
    norms = np.linalg.norm(rows.astype(float), axis=1)
    assert np.allclose(of.norms, norms, rtol=1e-14)
    known = norms > 0
    assert np.array_equal(of.group, np.where(known, group, -1))
    unit = rows[known] / norms[known, None]
    assert np.allclose(of.centered[known], unit - of.center, atol=1e-7)
    assert not of.centered[~known].any()
    for c in range(5):
        own = unit[group[known] == c]
        assert of.sizes[c] == len(own)
        if len(own):
            assert np.allclose(of.mean[c], own.mean(axis=0), rtol=1e-13)
            assert of.scatter[c] == pytest.approx(
                ((own - own.mean(axis=0)) ** 2).sum(), rel=1e-9, abs=1e-20
            )


def test_the_mean_of_a_far_narrow_class_keeps_its_digits():
    """E[x²] − E[x]² would lose them all."""
    generator = np.random.default_rng(0)
    rows = (1 + 1e-4 * generator.normal(size=(500, 8))).astype(np.float32)
    of = block(rows, np.zeros(500), 1)
    pass_rows(of)
    unit = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    assert of.scatter[0] == pytest.approx(((unit - unit.mean(axis=0)) ** 2).sum(), rel=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_named(value):
    rows = np.ones((9, 6), np.float32)
    rows[7, 2] = rows[4, 5] = value
    assert pass_rows(block(rows, np.zeros(9), 1)) == 4


def test_hashes_are_equal_for_equal_rows_only():
    # pixels: small whole numbers, whose floats end in many zeros
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 9, (4000, 4)).astype(np.float32)
    rows[5], rows[9] = -0.0, 0.0
    of = block(rows, np.zeros(4000), 1)
    pass_rows(of)
    _, by_row = np.unique(rows + 0.0, axis=0, return_inverse=True)
    _, by_hash = np.unique(of.hashes, return_inverse=True)
    assert len(np.unique(np.stack([by_row, by_hash]), axis=1).T) == by_row.max() + 1
    assert by_row.max() == by_hash.max()


@pytest.mark.parametrize("kept", [1, 4, 30])
def test_the_nearest_equal_a_sort_over_all_blocks(kept):
    generator = np.random.default_rng(kept)
    scores = generator.integers(0, 40, (6, 300)).astype(np.float32)  # with many ties
    group, query_group = generator.integers(-1, 3, 300), generator.integers(0, 3, 6)
    query_row = np.array([1000, 1005, 1100, 1299, 3, 1150])
    for q, row in enumerate(query_row):
        if row >= 1000:
            scores[q, row - 1000] = 50  # it would be the first
    kept_arrays = [
        part
        for _ in range(3)
        for part in (np.full((6, kept), -np.inf, np.float32), np.full((6, kept), -1, np.int64))
    ]
    for first in range(0, 300, 77):
        part = slice(first, first + 77)
        keep_nearest(
            NearestTask(
                np.ascontiguousarray(scores[:, part]),
                group[part].copy(),
                query_group,
                query_row,
                *kept_arrays,
            ),
            1000 + first,
        )
    kinds = (lambda g, q: g >= 0, lambda g, q: g == q, lambda g, q: (g >= 0) & (g != q))
    for number, allowed in enumerate(kinds):
        for q in range(6):
            rows = [
                (-scores[q, n], 1000 + n)
                for n in range(300)
                if allowed(group[n], query_group[q]) and 1000 + n != query_row[q]
            ]
            expected = sorted(rows)[:kept]
            row = kept_arrays[2 * number + 1][q]
            assert row[: len(expected)].tolist() == [n for _, n in expected]
            assert (row[len(expected) :] == -1).all()
            assert kept_arrays[2 * number][q, : len(expected)].tolist() == [-s for s, _ in expected]
