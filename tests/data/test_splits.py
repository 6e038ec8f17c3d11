import numpy as np

from lossgauge.data.splits import class_disjoint, fingerprint, halves

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
