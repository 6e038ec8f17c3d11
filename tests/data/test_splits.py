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
    validation_slice,
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
    with pytest.raises(InputError, match=r"unknown split 'stratify' \(did you mean 'stratified'"):
        choose(np.repeat([0, 1], 3), split="stratify")


def sliced(labels, train=None, test=None, *, share=0.2):
    """Both parts of the training rows; the second half of the rows tests if not given."""
    labels = np.asarray(labels)
    half = len(labels) // 2
    train = np.arange(half) if train is None else np.asarray(train)
    test = np.arange(half, len(labels)) if test is None else np.asarray(test)
    return validation_slice(labels, train, test, share=share)


SEEN = np.concatenate([np.arange(120) % 5, np.arange(120) % 5])
UNSEEN = np.concatenate([np.arange(120) % 10, 10 + np.arange(120) % 10])


@given(
    st.lists(st.integers(0, 6), min_size=24, max_size=90),
    st.floats(0.01, 0.5),
    st.booleans(),
)
def test_a_validation_slice_cuts_the_training_rows_in_two_by_the_rule(classes, share, unseen):
    train = np.array(classes) * 3 - 4
    labels = np.concatenate([train, train + 100 if unseen else train])
    present = set(train.tolist())
    wanted = {}
    for label in present:
        size = sum(1 for value in train.tolist() if value == label)
        if unseen:
            wanted[label] = size
        else:
            wanted[label] = max(2, round(share * size)) if size >= 4 else 0
    held_classes = max(2, round(share * len(present)))
    try:
        rest, held = sliced(labels, share=share)
    except DataError:
        # too small a part, and only then
        kept_classes = len(present) - held_classes
        assert (unseen and (kept_classes < 2 or min(wanted.values()) < 2)) or (
            not unseen and sum(count > 0 for count in wanted.values()) < 2
        )
        return
    assert sorted([*rest, *held]) == list(range(len(train)))
    assert rest.tolist() == sorted(rest)
    assert held.tolist() == sorted(held)
    found = {label: int((labels[held] == label).sum()) for label in present}
    if unseen:
        chosen = {label for label in present if found[label]}
        assert len(chosen) == held_classes
        assert all(found[label] == wanted[label] for label in chosen)
        assert not chosen & set(labels[rest].tolist())
    else:
        assert found == wanted
        assert all((labels[rest] == label).sum() >= 2 or not found[label] for label in present)


@pytest.mark.parametrize("labels", [SEEN, UNSEEN], ids=["seen", "unseen"])
def test_a_validation_slice_is_the_same_each_time_and_drawn_not_cut_off(labels):
    (rest, held), (again, held_again) = sliced(labels), sliced(labels.copy())
    assert held.tolist() == held_again.tolist()
    assert rest.tolist() == again.tolist()
    first = [
        row
        for label in np.unique(labels[:120])
        for row in np.flatnonzero(labels[:120] == label)[:5]
    ]
    assert held.tolist() != sorted(first)
    assert set(labels[held]) != {0, 1}
    smaller, larger = (len(sliced(labels, share=share)[1]) for share in (0.2, 0.5))
    assert smaller < larger


@pytest.mark.parametrize("labels", [SEEN, UNSEEN], ids=["seen", "unseen"])
def test_a_validation_slice_keeps_its_rows_when_classes_get_other_names_in_the_same_order(labels):
    _, held = sliced(labels)
    _, renamed = sliced(labels * 7 + 1000)
    assert renamed.tolist() == held.tolist()


def test_held_out_classes_do_not_depend_on_the_order_of_rows():
    order = np.random.default_rng(1).permutation(120)
    shuffled = np.concatenate([UNSEEN[:120][order], UNSEEN[120:]])
    _, held = sliced(UNSEEN)
    _, there = sliced(shuffled)
    assert set(UNSEEN[held]) == set(shuffled[there])
    assert sorted(order[there]) == held.tolist()


def test_a_validation_slice_looks_at_test_labels_only_to_tell_whether_their_classes_are_trained_on():
    for labels in (SEEN, UNSEEN):
        garbage = labels.copy()
        garbage[120:] = np.random.default_rng(0).permutation(labels[120:])
        garbage[130:] = labels[120]
        assert sliced(garbage)[1].tolist() == sliced(labels)[1].tolist()
    # one trained class among the test's makes it a test of seen classes
    mixed = UNSEEN.copy()
    mixed[-1] = 0
    assert set(mixed[sliced(mixed)[1]]) == set(range(10))


def test_a_validation_slice_takes_row_numbers_that_lie_anywhere():
    train, test = np.arange(0, 240, 2), np.arange(1, 240, 2)
    labels = np.arange(240) // 2 % 5
    rest, held = sliced(labels, train, test)
    assert not set(test) & {*rest, *held}
    assert sorted([*rest, *held]) == train.tolist()


def test_a_class_of_fewer_than_four_gives_nothing_to_the_slice():
    labels = np.array([0] * 3 + [1] * 4 + [2] * 5 + [0, 1])
    rest, held = sliced(labels, np.arange(12), [12, 13], share=0.5)
    assert np.bincount(labels[held], minlength=3).tolist() == [0, 2, 2]
    assert np.bincount(labels[rest], minlength=3).tolist() == [3, 2, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        # unseen classes: three are too few for two and two
        (
            np.concatenate([np.arange(30) % 3, 5 + np.arange(30) % 3]),
            "10 samples of 1 classes for training",
        ),
        # nothing but classes of three
        (
            np.concatenate([np.arange(30) // 3, np.arange(30) // 3]),
            "0 samples of 0 classes for validation",
        ),
        # one class with rows to spare
        (np.array([0] * 9 + [1] * 3 + [0] * 12), "2 samples of 1 classes for validation"),
        # held-out classes of one sample each
        (
            np.concatenate([np.arange(30), 30 + np.arange(30)]),
            "classes for training, where two classes",
        ),
    ],
)
def test_a_slice_that_cannot_be_measured_is_refused_with_what_to_do(labels, message):
    with pytest.raises(DataError, match=message) as caught:
        sliced(labels)
    assert "use another validation_share, selection: last without tune, or more data" in str(
        caught.value
    )
