"""What is measured of a head and of the spaces beside it, against slow loops over the rows."""

import math

import pytest
import torch
from torch import nn

from lossgauge.study.run.measure import measure, ranked, references
from lossgauge.types import FeatureSet
from tests.support.studies import fake_features


def unit_rows(rows):
    """Each row over its own length, in Python's own floats."""
    return [[x / math.hypot(*row) for x in row] for row in rows.tolist()]


def squared_distance(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean_of(rows):
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def by_class(rows, labels):
    return {c: [row for row, y in zip(rows, labels, strict=True) if y == c] for c in set(labels)}


def slow_intra(rows, labels):
    """Mean over classes of the mean squared distance to the class mean; classes of one sample have none."""
    found = [
        math.fsum(squared_distance(row, mean_of(members)) for row in members) / len(members)
        for members in by_class(rows, labels).values()
        if len(members) > 1
    ]
    return math.fsum(found) / len(found)


def slow_inter(rows, labels):
    means = [mean_of(members) for members in by_class(rows, labels).values()]
    pairs = [(a, b) for i, a in enumerate(means) for b in means[:i]]
    return math.fsum(squared_distance(a, b) for a, b in pairs) / len(pairs)


def slow_recall(rows, labels):
    """Share of rows whose nearest other row is of their class, lone rows aside."""
    hits = []
    for i, row in enumerate(rows):
        if labels.count(labels[i]) > 1:
            others = [j for j in range(len(rows)) if j != i]
            nearest = min(others, key=lambda j, row=row: squared_distance(row, rows[j]))
            hits.append(labels[nearest] == labels[i])
    return sum(hits) / len(hits)


def long_and_short(features):
    """The same features, each row as much longer or shorter as none of the others."""
    lengths = torch.linspace(0.1, 9.0, len(features.features))[:, None]
    return features._replace(features=features.features * lengths[torch.randperm(len(lengths))])


@pytest.fixture
def features() -> FeatureSet:
    torch.manual_seed(3)
    return long_and_short(fake_features())


def side(features, rows):
    return unit_rows(features.features[rows]), features.labels[rows].tolist()


class Sphere(nn.Module):
    """A head that only puts its rows on the sphere."""

    def forward(self, features):
        return nn.functional.normalize(features)


def test_frozen_features_are_measured_on_the_sphere(features):
    frozen, random, collapsed = references(features, width=6).rows
    rows, labels = side(features, features.test)
    assert frozen["reference"] == "frozen features"
    assert frozen["intra"] == pytest.approx(slow_intra(rows, labels), rel=1e-5)
    assert frozen["inter"] == pytest.approx(slow_inter(rows, labels), rel=1e-5)
    assert frozen["recall_at_1"] == pytest.approx(slow_recall(rows, labels))
    # chance: a share of a quarter of the rows is of the class, and random rows are spread over the sphere
    assert random["intra"] == pytest.approx(0.9, abs=0.1)
    assert random["inter"] == pytest.approx(0.2, abs=0.1)
    assert 0 <= random["recall_at_1"] < 0.6
    assert (collapsed["intra"], collapsed["inter"], collapsed["offset"]) == (0, 0, 1)
    assert collapsed["intra_inter_ratio"] is None
    assert not [key for key in collapsed if key.startswith(("recall", "map", "r_"))]
    assert {row["dataset"] for row in (frozen, random, collapsed)} == {"fake"}


def test_each_side_is_measured_on_its_own_rows(features):
    features = features._replace(train=features.train[10:], validation=features.train[:10])
    row = measure(Sphere(), features, with_retrieval=True).row
    for name, rows in (("train", features.train), ("test", features.test)):
        of_side = side(features, rows)
        assert row[f"{name}_intra"] == pytest.approx(slow_intra(*of_side), rel=1e-5)
        assert row[f"{name}_inter"] == pytest.approx(slow_inter(*of_side), rel=1e-5)
    assert row["recall_at_1"] == pytest.approx(slow_recall(*side(features, features.test)))
    held = slow_recall(*side(features, features.validation))
    assert row["validation_recall_at_1"] == pytest.approx(held)
    without = measure(Sphere(), features, with_retrieval=False).row
    assert without == {key: value for key, value in row.items() if key in without}
    assert not [key for key in without if "recall" in key or "precision" in key or "map" in key]


def with_a_lone_class(features):
    labels = features.labels.clone()
    labels[features.test[3]] = 77
    return features._replace(labels=labels)


def test_a_class_has_a_row_a_side_and_a_lone_class_has_no_variance(features):
    features = with_a_lone_class(features)
    rows = measure(Sphere(), features, with_retrieval=False).classes
    assert [(row["side"], row["label"]) for row in rows] == [
        *(("train", label) for label in range(4)),
        *(("test", label) for label in (0, 1, 2, 3, 77)),
    ]
    for row in rows:
        points, labels = side(features, features.train if row["side"] == "train" else features.test)
        members = by_class(points, labels)[row["label"]]
        assert row["size"] == len(members)
        if row["label"] == 77:
            assert (row["intra"], row["margin"]) == (None, None)
            assert row["spacing"] > 0
        else:
            own = math.fsum(squared_distance(point, mean_of(members)) for point in members)
            assert row["intra"] == pytest.approx(own / len(members), rel=1e-5)


def test_the_smallest_class_intra_is_that_of_no_lone_class(features):
    features = with_a_lone_class(features)
    measured = measure(Sphere(), features, with_retrieval=False)
    row = measured.row
    of_test = [r["intra"] for r in measured.classes if r["side"] == "test"]
    assert row["test_smallest_class_intra"] == min(x for x in of_test if x is not None)
    assert all(value is None or math.isfinite(value) for value in row.values())


def test_neighbours_in_a_narrow_cone_are_those_of_exact_directions():
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(400, 64, generator=generator)
    rows = torch.nn.functional.normalize(torch.ones(64) + 1e-3 * noise)
    labels = torch.randint(4, (400,), generator=generator)
    exact = torch.nn.functional.normalize(rows.double())
    exact -= exact.mean(dim=0)
    distances = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.fill_diagonal_(torch.inf).argmin(dim=1)
    expected = float((labels[nearest] == labels).double().mean())
    assert ranked(rows, labels).recall_at[1] == expected
    # the plain product in float32 gives another order
    product = (rows @ rows.T).fill_diagonal_(-torch.inf)
    assert (product.argmax(dim=1) != nearest).any()
