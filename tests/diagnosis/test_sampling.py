import numpy as np
import pytest

from lossgauge.diagnosis.sampling import (
    by_first_row,
    draw,
    draw_by_class,
    number_classes,
    query_count,
)


@pytest.mark.parametrize("labels", [[5, 3, 3, 9], [-7, 10**15, -7, 0], [2], [2**62, -(2**62)]])
def test_classes_are_numbered_as_numpy_does(labels):
    classes, groups = number_classes(np.array(labels))
    expected, places = np.unique(labels, return_inverse=True)
    assert classes.tolist() == expected.tolist()
    assert groups.tolist() == places.tolist()


@pytest.mark.parametrize(
    ("rows", "width", "asked", "count"),
    [
        (20_000, 128, None, 20_000),
        (100_000, 128, None, 2**36 // 12_800_000),
        (10**7, 128, None, 128),
        (100, 10**9, None, 100),
        (10**7, 128, 1000, 1000),
        (50, 4, 1000, 50),
    ],
)
def test_all_rows_are_queries_until_that_takes_long(rows, width, asked, count):
    assert query_count(rows, width, asked) == count


def test_a_draw_is_ascending_without_repeats_and_has_a_seed():
    drawn = draw(1000, 50, seed=3)
    assert np.array_equal(drawn, np.unique(drawn))
    assert len(drawn) == 50
    assert np.array_equal(drawn, draw(1000, 50, seed=3))
    assert not np.array_equal(drawn, draw(1000, 50, seed=4))
    assert draw(7, 50, seed=0).tolist() == list(range(7))


@pytest.mark.parametrize(("classes", "per_class"), [(4, 250), (300, 5)])
def test_classes_are_drawn_evenly(classes, per_class, monkeypatch):
    monkeypatch.setattr("lossgauge.diagnosis.sampling._MOST_SORTED", 60_000)
    groups = np.random.default_rng(0).integers(0, classes, 80_000)
    groups[groups == 1] = 0  # class 0 is twice as large
    rows = draw_by_class(groups)
    assert np.array_equal(rows, np.unique(rows))
    _, counts = np.unique(groups[rows], return_counts=True)
    assert set(counts.tolist()) == {per_class if classes > 4 else 1000 // 3}


def test_classes_of_one_row_and_rows_of_zeros_are_not_drawn():
    groups = np.array([0, 1, 1, 2, 2, -1, -1, 3])
    assert draw_by_class(groups).tolist() == [1, 2, 3, 4]
    assert draw_by_class(np.arange(4)).tolist() == []


def test_groups_are_numbered_by_their_first_rows():
    assert by_first_row(np.array([4, 4, -1, 0, 4, 2, -1, 0])).tolist() == [0, 0, -1, 1, 0, 2, -1, 1]
    assert by_first_row(np.array([-1, -1])).tolist() == [-1, -1]


def test_other_numbers_for_the_same_classes_draw_the_same_rows():
    groups = np.random.default_rng(0).integers(0, 300, 20_000)
    other = np.random.default_rng(1).permutation(300)[groups]
    assert np.array_equal(draw_by_class(groups), draw_by_class(other))
