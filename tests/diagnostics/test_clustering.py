import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

import lossgauge as lg
from lossgauge.diagnostics import clustering as module
from lossgauge.errors import InputError, MissingExtra
from tests.diagnostics.test_directional_cdnv import made


def by_permutations(assigned, labels):
    """The best share of rows over all one-to-one matches."""
    clusters, classes = sorted(set(assigned)), sorted(set(labels))
    size = max(len(clusters), len(classes))
    clusters += [None] * (size - len(clusters))
    best = 0
    for order in itertools.permutations(range(size), len(classes)):
        match = {clusters[at]: label for at, label in zip(order, classes, strict=True)}
        best = max(best, sum(match.get(a) == b for a, b in zip(assigned, labels, strict=True)))
    return best / len(labels)


def nmi_and_ari(assigned, labels):
    """By their definitions: entropies, and pairs of rows."""
    n = len(labels)

    def entropy(values):
        return -sum(c / n * math.log(c / n) for c in Counter(values).values())

    both = list(zip(assigned, labels, strict=True))
    a, b = entropy(assigned), entropy(labels)
    nmi = 2 * (a + b - entropy(both)) / (a + b)
    pairs = list(itertools.combinations(range(n), 2))
    same_a = [assigned[i] == assigned[j] for i, j in pairs]
    same_b = [labels[i] == labels[j] for i, j in pairs]
    together = sum(x and y for x, y in zip(same_a, same_b, strict=True))
    expected = sum(same_a) * sum(same_b) / len(pairs)
    return nmi, (together - expected) / ((sum(same_a) + sum(same_b)) / 2 - expected)


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (6, 4), (2, 5), (4, 6)])
def test_agreement_equals_all_permutations_and_the_definitions(clusters, classes):
    generator = np.random.default_rng(clusters)
    labels = generator.integers(classes, size=40)
    assigned = (
        np.where(generator.random(40) < 0.6, labels, generator.integers(9, size=40)) % clusters
    )
    of = lg.cluster_agreement(5 - 3 * assigned, labels)
    nmi, ari = nmi_and_ari(assigned.tolist(), labels.tolist())
    assert of.accuracy == by_permutations(assigned.tolist(), labels.tolist())
    assert of.nmi == pytest.approx(nmi, rel=1e-12)
    assert of.ari == pytest.approx(ari, rel=1e-12)
    assert of.cluster_count == len(set(assigned))


def test_k_means_finds_separate_classes_whatever_their_names_order_rotation_and_scale():
    rows, labels = made([12, 20, 9, 15], spread=0.05)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    for other, names in (
        (rows, labels),
        (1e170 * rows @ turn, -labels),
        (rows[::-1], labels[::-1]),
    ):
        of = lg.clustering(other, names.copy())
        assert (of.accuracy, of.nmi, of.ari) == pytest.approx((1, 1, 1))
    assert lg.clustering(rows, labels, k=2).cluster_count == 2
    assert lg.clustering(rows, labels, k=2).accuracy < 1


def test_random_labels_give_chance():
    rows = np.random.default_rng(0).normal(size=(600, 8))
    of = lg.clustering(rows, np.arange(600) % 4)
    assert of.accuracy == pytest.approx(0.25, abs=0.06)
    assert of.nmi < 0.02
    assert of.ari == pytest.approx(0, abs=0.01)


def test_a_collapsed_space_is_one_cluster():
    of = lg.clustering(torch.ones(6, 2), torch.arange(6) % 3)
    assert (of.cluster_count, of.accuracy, of.nmi, of.ari) == (1, 1 / 3, 0, 0)


def test_bad_input_is_one_clear_error(monkeypatch):
    with pytest.raises(InputError, match="at least two classes, got only label 3"):
        lg.clustering(torch.ones(4, 2), torch.full((4,), 3))
    with pytest.raises(InputError, match="from 1 to the number of rows, 4, got 5"):
        lg.clustering(torch.ones(4, 2), torch.arange(4), k=5)
    with pytest.raises(InputError, match=r"got shapes \(2,\) and \(3,\)"):
        lg.cluster_agreement([0, 1], [0, 1, 1])
    with pytest.raises(InputError, match="must be integers"):
        lg.cluster_agreement([0.5, 1], [0, 1])
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtra, match="pip install 'lossgauge\\[demo\\]'"):
        module.cluster_agreement([0, 1], [0, 1])
