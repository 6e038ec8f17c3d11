from collections import Counter

import numpy as np
import torch

from lossgauge.diagnostics.copies import copies


def slow(hashes, labels, trains):
    found = []
    for row, value in enumerate(hashes):
        first = hashes.index(value)
        if first != row:
            found.append((row, first))
    across = sum(
        not trains[row] and any(trains[o] for o in range(len(hashes)) if hashes[o] == hashes[row])
        for row in range(len(hashes))
    )
    earlier = [
        {labels[other] for other in range(row) if hashes[other] == hashes[row]}
        for row in range(len(hashes))
    ]
    inside = [row for row, seen in enumerate(earlier) if labels[row] in seen]
    between = sum(bool(seen - {labels[row]}) for row, seen in enumerate(earlier))
    return found, inside, between, across


def test_copies_equal_a_loop_over_pairs():
    generator = np.random.default_rng(0)
    for seed in range(20):
        hashes = generator.integers(-6 - seed, 7 + seed, 40)
        labels, trains = generator.integers(0, 3, 40), generator.integers(0, 2, 40) == 1
        of = copies(*map(torch.from_numpy, (hashes, labels, trains)))
        found, inside, between, across = slow(hashes.tolist(), labels.tolist(), trains.tolist())
        assert list(zip(of.row.tolist(), of.of.tolist(), strict=True)) == found
        counts = (of.inside_classes, of.between_classes, of.across_split)
        assert counts == (len(inside), between, across)
        assert of.by_class == Counter(labels[inside].tolist())
        assert of.share == len(found) / 40


def test_copies_of_a_class_are_counted_under_its_label():
    of = copies(torch.tensor([5, 5, 5, 9, 9]), torch.tensor([7, 7, 8, 8, 8]))
    assert of.by_class == {7: 1, 8: 1}
    assert (of.inside_classes, of.between_classes, of.across_split) == (2, 1, None)


def test_without_labels_and_split_only_the_copies_are_known():
    of = copies(torch.tensor([3, 4, 3]))
    assert (of.row.tolist(), of.of.tolist()) == ([2], [0])
    assert (of.inside_classes, of.between_classes, of.by_class) == (None, None, {})
    assert copies(torch.tensor([1, 2])).share == 0


def test_a_copy_of_a_row_of_its_class_counts_though_the_first_row_is_of_another():
    of = copies(torch.tensor([5, 5, 1, 5, 2, 5]), torch.tensor([0, 1, 0, 1, 0, 1]))
    assert (of.row.tolist(), of.of.tolist()) == ([1, 3, 5], [0, 0, 0])
    assert (of.inside_classes, of.between_classes, of.by_class) == (2, 3, {1: 2})
