import itertools

import numpy as np
import pytest
import torch

from lossgauge.diagnosis import one_pass
from lossgauge.diagnosis.block_reader import some_rows
from lossgauge.diagnosis.one_pass import measure_part
from lossgauge.diagnosis.parts import Queries, merge_parts
from lossgauge.diagnostics.moments import moments
from lossgauge.errors import DataError

CLASSES = 7


def table(*, count=900, width=24, seed=0, cone=3.0):
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, CLASSES, count)
    centers = generator.normal(size=(CLASSES, width))
    rows = cone + centers[groups] + generator.normal(size=(count, width))
    return (rows * generator.uniform(0.5, 2, (count, 1))).astype(np.float32), groups


def directions_of(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def queries_of(rows, groups, count=11):
    numbers = np.sort(np.random.default_rng(5).choice(len(rows), count, replace=False))
    return Queries(numbers, groups[numbers], directions_of(rows)[numbers])


def measure(rows, groups, **given):
    return measure_part(rows, groups, class_count=CLASSES, **given)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Several blocks in each lane."""
    monkeypatch.setattr(one_pass, "BLOCK_BYTES", 4 * 24 * 50)


@pytest.mark.parametrize("exact", [True, False])
def test_moments_equal_those_of_all_rows_at_once(exact):
    rows, groups = table()
    of = measure(rows, groups, exact=exact).moments
    expected = moments(directions_of(rows), groups)
    assert torch.equal(of.labels, expected.labels)
    assert torch.equal(of.sizes, expected.sizes)
    assert torch.allclose(of.mean, expected.mean, rtol=0, atol=1e-14)
    assert torch.allclose(of.scatter, expected.scatter, rtol=1e-11)
    error = 1e-12 if exact else 3e-7
    largest = float(expected.spread.abs().max())
    assert torch.allclose(of.spread, expected.spread, rtol=0, atol=error * largest)


def test_numbers_do_not_depend_on_the_number_of_threads(monkeypatch):
    rows, groups = table()
    queries = queries_of(rows, groups)
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(one_pass, "usable_cores", lambda cores=cores: cores)
        found.append(measure(rows, groups, queries=queries))
    for other in found[1:]:
        for one, two in zip(found[0].moments, other.moments, strict=True):
            assert torch.equal(one, two)
        assert np.array_equal(found[0].candidates.any.row, other.candidates.any.row)
        assert np.array_equal(found[0].hashes, other.hashes)


@pytest.mark.parametrize("kind", ["npy", "memory", "float64", "float16", "big-endian"])
def test_the_nearest_rows_are_those_of_a_sort_by_cosine(kind, tmp_path):
    rows, groups = table()
    if kind == "float16":
        rows = rows.astype(np.float16).astype(np.float32)
    array = {
        "float64": rows.astype(np.float64) * 2.0**-300,
        "float16": rows.astype(np.float16),
        "big-endian": rows.astype(">f4"),
    }.get(kind, rows)
    if kind == "npy":
        np.save(tmp_path / "x.npy", rows)
        array = np.load(tmp_path / "x.npy", mmap_mode="r")
    queries = queries_of(rows, groups)
    of = measure(array, groups, queries=queries).candidates
    similarity = queries.directions @ directions_of(rows).T
    similarity[np.arange(11), queries.rows] = -9
    same = groups[queries.rows][:, None] == groups[None]
    for kept, allowed in ((of.any, same | ~same), (of.right, same), (of.wrong, ~same)):
        order = np.argsort(-np.where(allowed, similarity, -9), axis=1, kind="stable")
        assert np.array_equal(kept.row[:, :8], order[:, :8])
        assert np.allclose(
            kept.score[:, :8], np.take_along_axis(similarity, order, 1)[:, :8], atol=1e-6
        )


def test_parts_merge_to_one_array():
    rows, groups = table()
    queries = queries_of(rows, groups)
    assert not np.isin([10, 700], queries.rows).any()
    rows[[10, 700]] = 0
    whole = measure(rows, groups, queries=queries)
    ends = (0, 13, 300, 301, 900)  # one part is smaller than the width, and one has a single row
    parts = [
        measure(rows[a:b], groups[a:b], first_row=a, queries=queries)
        for a, b in itertools.pairwise(ends)
    ]
    merged = merge_parts(parts)
    for name in ("sizes", "labels"):
        assert torch.equal(getattr(merged.moments, name), getattr(whole.moments, name))
    assert torch.allclose(merged.moments.mean, whole.moments.mean, rtol=0, atol=1e-14)
    assert torch.allclose(merged.moments.scatter, whole.moments.scatter, rtol=1e-12)
    # the products are float32, and their blocks differ
    assert torch.allclose(merged.moments.spread, whole.moments.spread, rtol=0, atol=1e-5)
    again = merge_parts([merge_parts(parts[:2]), merge_parts(parts[2:])])
    for one, two in zip(again.moments, merged.moments, strict=True):
        assert torch.allclose(one.double(), two.double(), rtol=1e-12, atol=1e-12)
    assert merged.norms[:1] == whole.norms[:1]
    assert merged.norms.mean == pytest.approx(whole.norms.mean, rel=1e-14)
    assert merged.norms[2:] == whole.norms[2:]
    assert np.array_equal(merged.hashes, whole.hashes)
    assert np.array_equal(merged.zero, [10, 700])
    for one, two in zip(merged.candidates, whole.candidates, strict=True):
        assert np.array_equal(one.row[:, :8], two.row[:, :8])


def test_rows_of_zeros_count_nowhere():
    rows, groups = table()
    queries = queries_of(rows, groups)
    empty = np.setdiff1d([0, 44, 899], queries.rows)
    without = np.setdiff1d(np.arange(900), empty)
    rows[empty] = 0
    of = measure(rows, groups, queries=queries)
    expected = moments(directions_of(rows[without]), groups[without])
    assert torch.equal(of.moments.sizes, expected.sizes)
    assert torch.allclose(of.moments.mean, expected.mean, rtol=0, atol=1e-14)
    assert (of.norms.rows, of.norms.zero_count) == (900 - len(empty), len(empty))
    assert of.norms.first_zero == empty[0]
    assert not np.isin(of.candidates.any.row, empty).any()
    assert measure(np.zeros((5, 24), np.float32), groups[:5]).moments is None


@pytest.mark.parametrize(("value", "words"), [(np.nan, "row 613 holds NaN"), (np.inf, "holds Inf")])
def test_a_number_that_is_not_finite_is_named_with_its_row(value, words):
    rows, groups = table()
    rows[613, 3] = value
    with pytest.raises(DataError, match=words):
        measure(rows, groups)


def test_a_file_that_became_shorter_is_an_error(tmp_path):
    rows, groups = table()
    np.save(tmp_path / "x.npy", rows)
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(DataError, match="ends before its last row"):
        some_rows(array, np.array([2, 890]))
    with pytest.raises(DataError, match="ends before its last row"):
        measure(array, groups)


def test_progress_counts_every_row():
    rows, groups = table()
    seen = []
    measure(rows, groups, progress=seen.append)
    assert sum(seen) == 900
    assert len(seen) > 10


def test_many_classes_use_one_lane(monkeypatch):
    monkeypatch.setattr(one_pass, "LANE_BYTES", 100)
    rows, groups = table()
    of = measure(rows, groups).moments
    assert torch.allclose(of.mean, moments(directions_of(rows), groups).mean, rtol=0, atol=1e-14)
