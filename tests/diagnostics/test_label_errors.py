import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lossgauge.diagnostics.label_errors import label_errors
from lossgauge.errors import InputError

K = 5


def search(rows, labels, k=K):
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-9)
    score, neighbors = similarity.topk(k)
    sizes = labels.bincount()[labels]
    return torch.arange(len(rows)), labels, labels[neighbors], score, sizes


def clusters(*, classes=10, size=60, noise=0.25, width=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(size)
    centers = normalize(torch.randn(classes, width, dtype=torch.float64, generator=generator))
    noise_rows = torch.randn(len(labels), width, dtype=torch.float64, generator=generator)
    return normalize(centers[labels] + noise * noise_rows / 2), labels


def planted(labels, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    bad = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    classes = int(labels.max()) + 1
    wrong = labels.clone()
    wrong[bad] = (
        labels[bad] + torch.randint(1, classes, (len(bad),), generator=generator)
    ) % classes
    return wrong, set(bad.tolist())


def slow(rows, labels, neighbor_labels, similarity, sizes):
    """The rules one by one."""
    labels, around = labels.tolist(), neighbor_labels.tolist()
    close = similarity.mean(dim=1).tolist()
    own = [sum(x == label for x in near) / K for label, near in zip(labels, around, strict=True)]
    usual, least = {}, {}
    for c in {*labels, *itertools.chain(*around)}:
        of = [n for n, label in enumerate(labels) if label == c]
        every = range(len(labels))
        chosen = of if len(of) >= 5 else every
        usual[c] = np.mean([own[n] for n in chosen])
        least[c] = sorted(close[n] for n in chosen)[int(0.1 * len(chosen))]
    found = {}
    for n, (label, near) in enumerate(zip(labels, around, strict=True)):
        counts = {c: near.count(c) / K for c in near if c != label}
        if int(sizes[n]) < 3 or own[n] or not counts:
            continue
        best = max(counts.values())
        c = next(c for c in near if counts.get(c) == best)
        frequency = sum(near.count(c) for near in around) / (K * len(around))
        is_group = usual[c] - frequency >= 0.2 * (1 - frequency)
        if is_group and best > 0.5 and best >= usual[c] - 0.15 - 1e-12 and close[n] >= least[c]:
            found[n] = c
    for label in set(labels):
        size = labels.count(label)
        for c in set(found.values()):
            pair = [n for n in found if labels[n] == label and found[n] == c]
            if size >= 5 and len(pair) > size / 2:
                for n in pair:
                    del found[n]
    return found


@pytest.mark.parametrize("share", [0, 0.05, 0.3])
@pytest.mark.parametrize("noise", [0.35, 0.8])
def test_suspects_equal_a_loop_over_the_rules(share, noise):
    rows, labels = clusters(size=20, noise=noise)
    given = search(rows, planted(labels, share)[0])
    of = label_errors(*given)
    assert dict(zip(of.row.tolist(), of.suggested.tolist(), strict=True)) == slow(*given)
    assert of.given.tolist() == given[1][of.row].tolist()
    assert of.confidence.tolist() == sorted(of.confidence.tolist(), reverse=True)
    assert (of.row_count, of.k) == (200, K)


@pytest.mark.parametrize(
    ("share", "recall", "precision"),
    [(0.01, 0.8, 0.9), (0.05, 0.65, 0.95), (0.2, 0.6, 0.95), (0.33, 0.4, 0.95)],
)
def test_planted_errors_are_found_and_named(share, recall, precision):
    rows, labels = clusters()
    wrong, bad = planted(labels, share)
    of = label_errors(*search(rows, wrong))
    hits = bad & set(of.row.tolist())
    assert len(hits) >= recall * len(bad)
    assert len(hits) >= precision * len(of.row)
    named = (of.suggested == labels[of.row]).double().mean()
    assert named >= 0.95


def test_clean_labels_have_no_suspect():
    assert label_errors(*search(*clusters())).share == 0


def test_labels_that_have_nothing_to_do_with_the_rows_are_not_suspects():
    """They are wrong as a whole, which the geometry shows; no single row is more wrong than another."""
    generator = torch.Generator().manual_seed(0)
    noise = normalize(torch.randn(300, 8, dtype=torch.float64, generator=generator))
    for labels in (torch.arange(300) % 10, (torch.arange(300) % 10 - 6).clamp(min=0)):
        assert label_errors(*search(noise.clone(), labels)).share == 0


def test_a_small_class_inside_a_large_one_is_not_separated_and_not_wrong():
    rows, labels = clusters(classes=2, size=200, noise=0.35)
    labels[:8] = 2
    assert label_errors(*search(rows, labels)).share == 0


def test_classes_of_one_or_two_rows_are_not_judged():
    rows, labels = clusters(classes=3, size=40)
    labels[0], labels[1:3] = 7, 8
    of = label_errors(*search(rows, labels))
    assert (len(of.row), of.row_count) == (0, 117)


def test_one_neighbor_is_not_enough():
    with pytest.raises(InputError, match="at least two neighbours"):
        label_errors(*search(*clusters(classes=2, size=4), k=1))


def test_planted_errors_in_real_digits_are_found():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    rows, labels = normalize(torch.from_numpy(digits.data)), torch.from_numpy(digits.target)
    assert label_errors(*search(rows, labels)).share < 0.005
    for share, recall, precision in ((0.01, 0.75, 0.75), (0.05, 0.75, 0.9), (0.2, 0.7, 0.95)):
        wrong, bad = planted(labels, share)
        of = label_errors(*search(rows, wrong))
        hits = bad & set(of.row.tolist())
        assert len(hits) >= recall * len(bad)
        assert len(hits) >= precision * len(of.row)
