import math

import numpy as np
import pytest
import torch
from scipy.stats import skew

from lossgauge.diagnostics.hubness import hubness
from lossgauge.errors import InputError


def neighbors_of(rows, k):
    """By a loop: the `k` nearest others of each row."""
    found = []
    for i, row in enumerate(rows):
        gaps = [(float(((row - other) ** 2).sum()), j) for j, other in enumerate(rows) if j != i]
        found.append([j for _, j in sorted(gaps)[:k]])
    return torch.tensor(found)


@pytest.mark.parametrize("width", [2, 40])
def test_hubness_equals_a_loop_over_rows(width):
    rows, k = np.random.default_rng(0).normal(size=(60, width)), 5
    neighbors = neighbors_of(rows, k)
    of = hubness(neighbors)
    occurrence = [sum(j in found for found in neighbors.tolist()) for j in range(len(rows))]
    assert of.skew == pytest.approx(skew(occurrence), rel=1e-12)
    assert of.never_found == np.mean([n == 0 for n in occurrence])
    assert of.hub_share == sum(n for n in occurrence if n >= 2 * k) / (60 * k)
    assert (of.most_found, of.most_found_row) == (
        max(occurrence),
        occurrence.index(max(occurrence)),
    )
    assert (of.k, of.row_count) == (k, 60)


def test_neighbors_are_those_of_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors").NearestNeighbors
    rows = np.random.default_rng(1).normal(size=(80, 10))
    found = neighbors(n_neighbors=4).fit(rows).kneighbors(return_distance=False)
    assert hubness(torch.from_numpy(found)) == hubness(neighbors_of(rows, 4))


def test_one_hub_is_named_and_a_ring_has_none():
    star = torch.zeros(9, 1, dtype=torch.int64)
    star[0] = 1
    of = hubness(star)
    assert (of.most_found_row, of.most_found, of.never_found) == (0, 8, 7 / 9)
    assert of.skew > 2
    ring = (torch.arange(9)[:, None] + 1) % 9
    assert math.isnan(hubness(ring).skew)
    assert hubness(ring).never_found == 0


@pytest.mark.parametrize(
    ("neighbors", "words"),
    [
        ([[1], [2]], "numbers of the 2 rows, 0 to 1, got 2"),
        ([[1], [-1]], "got -1"),
        ([[1], [1]], "row 1 is: leave it out"),
        ([[], []], "needs rows and neighbours"),
    ],
)
def test_wrong_neighbors_are_refused(neighbors, words):
    with pytest.raises(InputError, match=words):
        hubness(torch.tensor(neighbors, dtype=torch.int64))
