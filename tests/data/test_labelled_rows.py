"""The training rows that keep their label: nested, seeded, and never a class without one."""

from itertools import pairwise

import numpy as np
import pytest

from lossgauge.data.labelled_rows import in_words, labelled_count, labelled_rows
from lossgauge.errors import InputError

LABELS = np.repeat([3, 5, 9], [40, 50, 130])
LABELS = LABELS[np.random.default_rng(0).permutation(len(LABELS))]
TRAIN = np.arange(10, 210)


def sizes(rows):
    return {label: sum(LABELS[row] == label for row in rows) for label in (3, 5, 9)}


def draw(seed=0, **form):
    return labelled_rows(LABELS, TRAIN, seed=seed, **form)


def test_the_rows_are_of_the_training_side_ascending_and_each_once():
    for form in ({"per_class": 5}, {"share": 0.1}, {"long_tail": 20}):
        rows = draw(**form)
        assert {*rows} <= {*TRAIN}
        assert (np.diff(rows) > 0).all()
        assert len(rows) == labelled_count(LABELS, TRAIN, **form)


def test_each_form_keeps_its_number_of_each_class():
    of_class = sizes(TRAIN)
    assert sizes(draw(per_class=5)) == {3: 5, 5: 5, 9: 5}
    assert sizes(draw(share=0.1)) == {
        label: int(count / 10 + 0.5) for label, count in of_class.items()
    }
    n = min(of_class.values())
    assert sorted(sizes(draw(long_tail=16)).values()) == sorted(
        int(n / 16 ** (rank / 2) + 0.5) for rank in range(3)
    )


def test_draws_of_one_seed_are_nested_and_other_seeds_draw_others():
    shares = [{*draw(share=share)} for share in (0.05, 0.1, 0.5, 0.9)]
    numbers = [{*draw(per_class=count)} for count in (1, 2, 5, 20)]
    for smaller, larger in (*pairwise(shares), *pairwise(numbers)):
        assert smaller < larger
    assert {*draw(per_class=5)} != {*draw(1, per_class=5)}
    assert np.array_equal(draw(7, per_class=5), draw(7, per_class=5))


def test_which_class_is_the_largest_of_a_long_tail_depends_on_the_seed():
    largest = {max(kept := sizes(draw(seed, long_tail=16)), key=kept.get) for seed in range(20)}
    assert largest == {3, 5, 9}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"per_class": 41}, "per_class 41 is above the rows of a class: class 3 has 3. training"),
        ({"share": 0.01}, "share 0.01 leaves a class without a row: class 3 has 3. training rows"),
        ({"long_tail": 1000}, "long_tail 1000 leaves a class without a row"),
        ({"share": 0.1, "per_class": 2}, "labels take one of share, per_class, long_tail, got"),
    ],
)
def test_a_class_without_enough_rows_is_one_clear_error(form, words):
    with pytest.raises(InputError, match=words):
        draw(**form)
    with pytest.raises(InputError, match=words):
        labelled_count(LABELS, TRAIN, **form)


def test_a_form_is_shown_in_a_few_words():
    shown = [in_words(form) for form in ({"share": 0.01}, {"per_class": 5}, {"long_tail": 100})]
    assert shown == ["1% labelled", "5 per class", "long tail 100"]
