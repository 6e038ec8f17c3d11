import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgauge.data.splits import (
    DISJOINT_CLASSES,
    choose_split,
    class_disjoint,
    fingerprint,
    halves,
    stratified,
)
from lossgauge.errors import DataError, InputError

LABELS = np.array([3, 1, 3, 2, 1, 3, 9, 1])


def test_class_disjoint_splits_by_the_order_of_class_ids():
    train, test = class_disjoint(LABELS)
    assert set(LABELS[train]) == {1, 2}
    assert set(LABELS[test]) == {3, 9}
    assert sorted([*train, *test]) == list(range(8))


def test_halves_take_the_first_rows_of_each_class():
    train, test = halves(LABELS)
    assert train.tolist() == [0, 1]
    assert test.tolist() == [2, 3, 4, 5, 6, 7]


def test_a_fingerprint_depends_on_the_split_and_not_on_the_order_of_rows():
    ids = list("abcdefgh")
    train, test = class_disjoint(LABELS)
    same = fingerprint(ids, LABELS, train, test)
    order = np.array([5, 0, 3, 7, 1, 2, 6, 4])
    place = np.argsort(order)
    assert fingerprint([ids[i] for i in order], LABELS[order], place[train], place[test]) == same
    assert fingerprint(ids, LABELS, train[1:], test) != same
    assert fingerprint(ids, LABELS, test, train) != same
    relabelled = LABELS.copy()
    relabelled[0] = 4
    assert fingerprint(ids, relabelled, train, test) != same


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 5))
def test_stratified_puts_half_of_each_class_on_either_side(labels, seed):
    labels = np.array(labels)
    train, test = stratified(labels, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert train.tolist() == sorted(train)
    assert test.tolist() == sorted(test)
    for label in set(labels.tolist()):
        sizes = (labels[train] == label).sum(), (labels[test] == label).sum()
        assert 0 <= sizes[1] - sizes[0] <= 1


def test_stratified_is_drawn_by_the_seed_and_not_in_order():
    labels = np.repeat([0, 1], 50)
    first, again, other = (stratified(labels, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first != halves(labels)[0].tolist()


def choose(labels, trains=None, *, split=None, seed=0):
    return choose_split(labels, trains, split=split, seed=seed, source="pets")


def test_a_split_that_is_given_is_taken_unless_another_is_named():
    labels = np.repeat([0, 1], 4)
    trains = np.array([1, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    assert choose(labels, trains).train.tolist() == [0, 1, 4]
    assert choose(labels, trains).protocol == "given"
    assert choose(labels, trains, split="stratified").protocol == "stratified"


def test_many_classes_are_split_by_class_and_few_inside_each():
    assert choose(np.repeat(np.arange(DISJOINT_CLASSES), 2)).protocol == "class-disjoint"
    assert choose(np.repeat(np.arange(DISJOINT_CLASSES - 1), 4)).protocol == "stratified"


def test_the_seed_picks_the_rows_of_a_stratified_split():
    labels = np.repeat([0, 1], 50)
    picked = [choose(labels, split="stratified", seed=seed).train.tolist() for seed in (3, 4)]
    assert picked[0] == stratified(labels, 3)[0].tolist()
    assert picked[0] != picked[1]


def test_a_split_that_cannot_be_measured_is_refused_with_the_side_named():
    with pytest.raises(DataError, match="class-disjoint split of pets leaves 4 samples of 1 class"):
        choose(np.repeat([0, 1], 4), split="class-disjoint")
    with pytest.raises(DataError, match="leaves 2 samples of 2 classes to train"):
        choose(np.repeat([0, 1], 3))
    with pytest.raises(DataError, match="leaves 0 samples of 0 classes to test"):
        choose(np.repeat([0, 1], 3), np.ones(6, dtype=bool))
    with pytest.raises(DataError, match="pets gives no split: add a column"):
        choose(np.repeat([0, 1], 3), split="given")
    with pytest.raises(InputError, match="unknown split 'stratify'; did you mean 'stratified'"):
        choose(np.repeat([0, 1], 3), split="stratify")
