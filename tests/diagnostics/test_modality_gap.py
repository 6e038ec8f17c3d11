import numpy as np
import pytest
import torch

from lossgauge.diagnostics.modality_gap import modality_gap
from lossgauge.diagnostics.moments import moments


def sides(shift, *, count=40, width=8):
    generator = np.random.default_rng(0)
    both = []
    for sign in (1, -1):
        rows = generator.normal(size=(count, width))
        rows[:, 0] += sign * shift
        both.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return both


def of(one, other):
    return modality_gap(
        *(moments(torch.from_numpy(rows), torch.zeros(len(rows)).long()) for rows in (one, other))
    )


@pytest.mark.parametrize("shift", [0, 1, 5])
def test_the_share_is_that_of_the_mean_squared_distance_over_all_pairs(shift):
    one, other = sides(shift)
    squared = [((q - d) ** 2).sum() for q in one for d in other]
    gap = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    found = of(one, other)
    assert found.distance == pytest.approx(gap)
    assert found.share == pytest.approx(gap**2 / np.mean(squared))
    assert found.between == pytest.approx(np.mean(one @ other.T))
    assert (found.share > 0.5) == (shift == 5)


def test_rows_at_one_point_have_no_share_and_opposite_ones_all():
    point = np.eye(4)[:1].repeat(3, axis=0)
    assert np.isnan(of(point, point).share)
    assert of(point, -point).share == 1
