"""A class-balanced sample: equally many rows of each class on both sides, and the same sample of images and of features."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgauge.data import load_dataset
from lossgauge.data.class_balanced import (
    ROWS_PER_CLASS,
    balanced_rows,
    sampled_features,
    sampled_images,
)
from tests.support.studies import fake_features


def sides(labels, share=0.5, seed=0):
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = int(share * len(labels))
    return np.sort(order[:cut]), np.sort(order[cut:])


def counts(labels, rows):
    return dict(
        zip(*(a.tolist() for a in np.unique(labels[rows], return_counts=True)), strict=True)
    )


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 5), min_size=40, max_size=120),
    st.integers(8, 130),
)
def test_no_class_has_more_rows_than_another_that_has_rows_left(labels, count):
    labels = np.array(labels)
    train, test = sides(labels)
    chosen = balanced_rows(labels, train, test, count)
    assert len(set(chosen.tolist())) == len(chosen)
    if count >= len(labels):
        assert chosen.tolist() == list(range(len(labels)))
        return
    for side in (train, test):
        kept = np.intersect1d(chosen, side)
        before, after = counts(labels, side), counts(labels, kept)
        largest = max(after.values())
        for label in after:
            assert after[label] == min(before[label], largest)
        wanted = round(count * len(side) / len(labels))
        assert len(kept) <= max(wanted, 2 * ROWS_PER_CLASS)
        # one row more of each class would be too many, or a class more
        if len(after) == len(before) and largest < max(before.values()):
            assert sum(min(size, largest + 1) for size in before.values()) > wanted


def test_many_classes_of_few_rows_lose_classes_and_both_sides_lose_the_same():
    labels = np.repeat(np.arange(100), 10)
    train, test = np.arange(0, 1000, 2), np.arange(1, 1000, 2)
    chosen = balanced_rows(labels, train, test, 200)
    assert set(counts(labels, chosen).values()) == {2 * ROWS_PER_CLASS}
    assert set(labels[np.intersect1d(chosen, train)]) == set(labels[np.intersect1d(chosen, test)])
    assert len(chosen) == 200


def test_a_smaller_sample_is_a_part_of_a_larger_one():
    labels = np.repeat(np.arange(7), 50)
    train, test = sides(labels)
    small, large = (set(balanced_rows(labels, train, test, n).tolist()) for n in (80, 200))
    assert small < large


def test_two_classes_stay_however_small_the_sample_is():
    labels = np.repeat(np.arange(50), 6)
    train, test = np.arange(0, 300, 2), np.arange(1, 300, 2)
    chosen = balanced_rows(labels, train, test, 8)
    assert len(counts(labels, np.intersect1d(chosen, test))) == 2


def test_sampled_images_are_the_images_of_the_same_rows():
    whole = load_dataset("digits")
    part = sampled_images(whole, 100)
    assert len(part.ids) == len(part.train) + len(part.test) <= 100
    assert part.digest != whole.digest
    for row in (0, 50, len(part.ids) - 1):
        place = whole.ids.index(part.ids[row])
        assert part.labels[row] == whole.labels[place]
        assert part.read(row).tobytes() == whole.read(place).tobytes()
        assert (row in part.train) == (place in whole.train)
    assert f"a class-balanced sample: {len(part.ids)} of its 1,797 rows" in part.notes
    assert sampled_images(whole, 5_000) is whole


def test_sampled_features_are_those_of_the_sampled_images():
    whole = fake_features(classes=4)
    part = sampled_features(whole, 24)
    chosen = balanced_rows(whole.labels.numpy(), whole.train.numpy(), whole.test.numpy(), 24)
    assert torch.equal(part.features, whole.features[torch.from_numpy(chosen)])
    assert torch.equal(part.labels, whole.labels[torch.from_numpy(chosen)])
    assert sorted([*chosen[part.train], *chosen[part.test]]) == chosen.tolist()
    assert set(chosen[part.train]) <= set(whole.train.tolist())
    assert part.fingerprint != whole.fingerprint
    assert sampled_features(whole, 10_000) is whole


@pytest.mark.parametrize("field", ["ids", "labels"])
def test_groups_go_with_their_rows(field):
    whole = load_dataset("digits")
    named = dataclasses.replace(whole, groups=np.array([f"g{id}" for id in whole.ids]))
    part = sampled_images(named, 60)
    assert part.groups is not None
    assert part.groups.tolist() == [f"g{id}" for id in part.ids]
    assert len(getattr(part, field)) == len(part.groups)
