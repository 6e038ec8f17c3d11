import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

import lossgauge as lg
from lossgauge.errors import InputError
from tests.diagnostics.test_directional_cdnv import made


def sides(spread=1.0, seed=0, sizes=(14, 9, 20)):
    rows, labels = made(sizes, spread=spread, seed=seed)
    return (rows[::2], labels[::2]), (rows[1::2], labels[1::2])


@pytest.mark.parametrize("block", [2**21, 40])
@pytest.mark.parametrize("k", [1, 4, 5])
def test_both_rules_equal_loops_and_scikit_learn(monkeypatch, k, block):
    monkeypatch.setattr("lossgauge.diagnostics.pseudo_labels.BLOCK_DISTANCES", block)
    (known, labels), (rows, truth) = sides()
    of = lg.pseudo_labels((known, labels), (rows, truth), k=k, least_votes=0.7)
    means = {c: known[labels == c].mean(axis=0) for c in set(labels)}
    accepted, right = [], []
    for i, row in enumerate(rows):
        order = sorted(range(len(known)), key=lambda j: math.dist(known[j], row))[:k]
        votes = Counter(labels[j] for j in order)
        first = next(labels[j] for j in order if votes[labels[j]] == max(votes.values()))
        nearest = min(means, key=lambda c: math.dist(means[c], row))
        assert (of.by_neighbors[i], of.by_means[i]) == (first, nearest)
        assert of.votes[i] == votes[first] / k
        accepted.append(first == nearest and votes[first] / k >= 0.7)
        right.append(first == truth[i])
    assert of.accepted.tolist() == accepted
    assert of.coverage == np.mean(accepted)
    assert of.accuracy == pytest.approx(np.mean(np.array(right)[accepted]))
    assert of.agreement == pytest.approx((of.by_neighbors == of.by_means).double().mean())
    assert of.mean_accuracy == pytest.approx(
        NearestCentroid().fit(known, labels).score(rows, truth)
    )
    if k == 1:
        neighbors = KNeighborsClassifier(1).fit(known, labels)
        assert of.neighbor_accuracy == pytest.approx(neighbors.score(rows, truth))


def test_labels_are_right_more_often_where_both_rules_agree():
    labelled, unlabelled = sides(spread=1.5, sizes=(300, 300, 300))
    of = lg.pseudo_labels(labelled, unlabelled)
    assert of.accuracy > max(of.neighbor_accuracy, of.mean_accuracy)
    strict = lg.pseudo_labels(labelled, unlabelled, least_votes=1.0)
    assert strict.coverage < of.coverage == of.agreement
    assert strict.accuracy > of.accuracy


def test_rotation_shift_scale_and_order_do_not_matter():
    (known, labels), (rows, truth) = sides()
    of = lg.pseudo_labels((known, labels), (rows, truth))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    order = np.random.default_rng(4).permutation(len(known))
    for a, b, names in (
        (1e200 * (known @ turn + 3), 1e200 * (rows @ turn + 3), labels),
        (known[order], rows, labels[order]),
    ):
        again = lg.pseudo_labels((a, names), (b, truth))
        assert torch.equal(again.by_neighbors, of.by_neighbors)
        assert torch.equal(again.by_means, of.by_means)


def test_without_true_labels_there_is_no_accuracy():
    labelled, (rows, _) = sides()
    of = lg.pseudo_labels(labelled, rows)
    assert (of.accuracy, of.neighbor_accuracy, of.mean_accuracy) == (None, None, None)
    nothing = lg.pseudo_labels(
        ([[0.0], [3.0], [5.0], [40.0]], [0, 1, 1, 0]), ([[4.0]], [1]), k=2, least_votes=1.0
    )
    assert nothing.coverage == 1
    few = lg.pseudo_labels(([[0.0], [3.0]], [0, 1]), ([[1.0]], [0]), least_votes=1.0)
    assert (few.votes.tolist(), few.coverage) == ([0.5], 0)
    assert math.isnan(few.accuracy)


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "keywords", "words"),
    [
        (
            ([[0.0], [1.0]], [0, 1]),
            ([[0.0]], [2]),
            {},
            "each class needs a labelled row, .* the first is 2",
        ),
        (([[0.0], [1.0]], [0, 0]), [[0.0]], {}, "at least two classes, got only label 0"),
        (([[0.0], [1.0]], [0, 1]), [[0.0, 1.0]], {}, "one width, got 1 and 2"),
        (
            ([[0.0], [1.0]], [0, math.nan]),
            [[0.0]],
            {},
            "labelled: labels must be one integer per row, but 1 of 2",
        ),
        (([[0.0], [1.0]], [0, 1]), [[math.nan]], {}, "unlabelled: embeddings must be finite"),
        (([[0.0], [1.0]], [0, 1]), [[0.0]], {"k": 0}, "k must be"),
        (([[0.0], [1.0]], [0, 1]), [[0.0]], {"least_votes": 2.0}, "share from 0 to 1"),
    ],
)
def test_bad_input_is_one_clear_error(labelled, unlabelled, keywords, words):
    with pytest.raises(InputError, match=words):
        lg.pseudo_labels(labelled, unlabelled, **keywords)
