"""The table of costs against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lossgauge.deployment.cost_sentences import cost_lines, narrow_lines
from lossgauge.deployment.costs import (
    RawCost,
    as_int8,
    costs,
    hits,
    principal_directions,
    search_times,
)
from lossgauge.deployment.export import notes_on_width
from lossgauge.errors import InputError
from lossgauge.report.text.rankings import in_points
from lossgauge.stats.intervals import Interval


def spread_rows(count: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows of five classes that overlap."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 5
    centers = torch.randn(5, width, generator=torch.Generator().manual_seed(9))
    rows = centers[labels] + 1.6 * torch.randn(count, width, generator=generator)
    return torch.nn.functional.normalize(rows), labels


def recall_by_hand(queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose nearest other row, by cosine, has their label: one pair at a time."""
    right = 0
    for row in range(len(queries)):
        best, nearest = -math.inf, -1
        for other in range(len(gallery)):
            if other == row:
                continue
            a, b = queries[row], gallery[other]
            cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
                sum(x * x for x in a) * sum(y * y for y in b)
            )
            if cosine > best:
                best, nearest = cosine, other
        right += labels[row] == labels[nearest]
    return right / len(queries)


@pytest.fixture(scope="module")
def spaces():
    train, _ = spread_rows(60, 12, 1)
    test, labels = spread_rows(48, 12, 2)
    return train, test, labels


def test_recall_is_that_of_a_loop_over_all_pairs(spaces):
    train, test, labels = spaces
    table = costs(train, test, labels, widths=(3, 7))
    assert [row.width for row in table.widths] == [12, 7, 3]
    wide, of = test.double().numpy(), labels.numpy()
    moments = sum(np.outer(row, row) for row in train.double().numpy())
    values, vectors = np.linalg.eig(moments)
    rotated = wide @ vectors[:, np.argsort(-values)]
    for row in table.widths:
        first, leading = wide[:, : row.width], rotated[:, : row.width]
        assert row.truncated == pytest.approx(recall_by_hand(first, first, of), abs=1e-12)
        assert row.reduced == pytest.approx(recall_by_hand(leading, leading, of), abs=1e-12)
        whole = table.widths[0].truncated
        assert row.truncated_change.mean == pytest.approx(row.truncated - whole, abs=1e-12)
        assert row.reduced_change.mean == pytest.approx(row.reduced - whole, abs=1e-12)
    # the widths differ, so a column that is mixed up with another would be seen
    assert len({row.truncated for row in table.widths}) > 1
    assert table.widths[2].reduced != table.widths[2].truncated


def test_the_features_are_cut_to_the_same_widths_by_directions_of_their_own(spaces):
    train, test, labels = spaces
    raw_train, _ = spread_rows(60, 20, 3)
    raw_test, _ = spread_rows(48, 20, 4)
    table = costs(train, test, labels, raw=(raw_train, raw_test), widths=(7, 3))
    assert [row.width for row in table.raw] == [20, 12, 7, 3]
    head = {row.width: row for row in table.widths}
    # another way to the same directions: the right singular vectors of the training rows
    directions = np.linalg.svd(raw_train.double().numpy())[2]
    wide = raw_test.double().numpy()
    for row in table.raw:
        first, leading = wide[:, : row.width], wide @ directions[: row.width].T
        for rows, value, gain, with_head in (
            (first, row.truncated, row.truncated_gain, "truncated"),
            (leading, row.reduced, row.reduced_gain, "reduced"),
        ):
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            cosine = unit @ unit.T - 3 * np.eye(len(unit))
            right = (labels.numpy()[cosine.argmax(axis=1)] == labels.numpy()).mean()
            assert value == pytest.approx(right, abs=1e-12)
            # at the full width of the features, the whole head is beside them
            same = head[12 if row.width == 20 else row.width]
            assert gain.mean == pytest.approx(getattr(same, with_head) - right, abs=1e-12)
    assert len({row.reduced for row in table.raw} | {row.truncated for row in table.raw}) > 3
    assert costs(train, test, labels, widths=(3,)).raw == ()
    narrow = costs(train, test, labels, raw=(raw_train[:, :8], raw_test[:, :8]), widths=(3,))
    assert [row.width for row in narrow.raw] == [8, 3]
    assert list(narrow_lines(narrow)) == [
        f"at 12 numbers (48 queries): R@1 {100 * head[12].truncated:.1f}\u00a0% with the head; {100 * narrow.raw[0].truncated:.1f}\u00a0% with all 8 numbers "
        f"of the frozen features (the head adds {in_points(narrow.raw[0].truncated_gain)})"
    ]


@pytest.mark.parametrize(
    ("cut", "full", "words"),
    [
        (0.5, 0.7, "no lower with the raw model cut to 3 principal directions"),
        (0.4, 0.7, "no lower with all 20 numbers of the raw model than with this head of 3"),
        (0.4, 0.4, ""),
    ],
)
def test_a_narrow_adapter_that_is_no_better_than_the_raw_model_says_so(cut, full, words, spaces):
    table = costs(*spaces, widths=(3,))
    none = Interval(0.0, None, 0)
    raw = tuple(RawCost(width, value, none, value, none) for width, value in ((20, full), (3, cut)))
    head = table.widths[1]._replace(reduced=0.5)
    notes = notes_on_width(table._replace(widths=(head,), raw=raw, metric="nDCG@10"))
    assert [words in note for note in notes] == [True] * bool(words)


def test_int8_is_rounding_of_the_gallery_only(spaces):
    train, test, labels = spaces
    wide = test.double().numpy()
    coarse = np.array([[round(x * 127 / max(map(abs, row))) for x in row] for row in wide])
    assert as_int8(test.double()).numpy().tolist() == coarse.tolist()
    assert np.abs(coarse).max() == 127
    table = costs(train, test, labels)
    expected = recall_by_hand(wide, coarse.astype(float), labels.numpy())
    assert table.int8 == pytest.approx(expected, abs=1e-12)
    assert not as_int8(torch.zeros(1, 3)).any()


def test_int8_loses_what_is_smaller_than_a_step():
    """The classes differ only in numbers below 1/254 of the largest: one byte for each number cannot tell them apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    rows = 1e-3 * torch.randn(40, 4, generator=generator)
    rows[:, 0], rows[:, 1] = 1.0, 2e-3 * (labels - 0.5)
    rows[:, 2:] *= 0.1
    table = costs(rows, rows, labels)
    coarse = as_int8(rows.double()).numpy()
    assert table.widths[0].truncated == 1.0
    assert table.int8 == recall_by_hand(rows.double().numpy(), coarse, labels.numpy()) < 0.9
    assert table.int8_change.mean == pytest.approx(table.int8 - 1)


def test_bytes_of_a_million_rows(spaces):
    table = costs(*spaces)
    assert [(row.width, row.bytes_float32, row.bytes_int8) for row in table.widths] == [
        (12, 48_000_000, 12_000_000),
        (8, 32_000_000, 8_000_000),
    ]
    assert all(row.search_milliseconds > 0 for row in table.widths)
    assert np.zeros((1000, 12), np.float32).nbytes * 1000 == 48_000_000


def test_full_width_changes_nothing_and_the_interval_is_paired(spaces):
    train, test, labels = spaces
    table = costs(train, test, labels, widths=(3,))
    full, narrow = table.widths
    assert full.truncated == full.reduced
    assert full.truncated_change.half_width is None  # no change, and so no spread
    every = torch.arange(len(labels))
    difference = hits(test[:, :3], labels, every).astype(float) - hits(test, labels, every)
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    assert narrow.truncated_change.half_width == pytest.approx(2.0117 * error, rel=1e-3)


def test_directions_are_orthogonal_and_the_largest_first():
    rows = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 9, 3, 1, 5, 2]
    )
    basis = principal_directions(rows)
    assert torch.allclose(basis.T @ basis, torch.eye(6, dtype=torch.float64), atol=1e-12)
    energy = (rows.double() @ basis).square().sum(dim=0)
    assert torch.equal(energy, energy.sort(descending=True).values)


def test_queries_are_drawn_where_there_are_many(spaces, monkeypatch):
    monkeypatch.setattr("lossgauge.deployment.costs.MOST_QUERIES", 10)
    table = costs(*spaces)
    assert (table.queries, table.gallery) == (10, 48)


def test_times_are_scaled_to_a_million_rows(monkeypatch):
    """With a clock that says one second for each search: a width whose rows are half as many takes twice as long."""
    ticks = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    assert search_times([4, 2], numbers=4000) == {4: 1e6, 2: 5e5}


@pytest.mark.parametrize("width", [0, 13])
def test_a_width_that_is_not_there_is_an_error(width, spaces):
    with pytest.raises(InputError, match=f"must be from 1 to 12, got {width}"):
        costs(*spaces, widths=(width,))


def test_the_table_in_words(spaces):
    train, test, _ = spaces
    lines = list(cost_lines(costs(*spaces, raw=(train[:, :9], test[:, :9]))))
    assert lines[0].split("  ")[0].strip() == "width"
    assert {len(line) for line in lines[:3]} == {len(lines[0])}
    assert "48\u00a0MB" in lines[1]
    assert "12\u00a0MB" in lines[1]
    assert "48 queries among 48 rows" in lines[3]
    assert lines[4] == "--width N writes a head of N principal directions"
    assert [line.split()[0] for line in lines[6:9]] == ["width", "9", "8"]
    assert lines[6].count("head adds") == 2
    assert lines[9].endswith("the first line compares all 9 numbers with all 12 of the head")
