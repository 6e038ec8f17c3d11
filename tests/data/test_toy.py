"""The toy set of ten Gaussian classes: its counts, its noise, and its raw variance against the published one."""

import numpy as np
import pytest
import torch

from lossgauge.data.toy import gaussian_classes, load
from lossgauge.diagnostics.variance import geometry
from lossgauge.errors import InputError


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counts_noise_and_raw_variance_are_those_that_are_published(seed):
    rows, labels = gaussian_classes(seed)
    assert rows.shape == (2_100, 128)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert (labels[2_000:] == -1).all()
    moved = (labels[:2_000] != np.repeat(np.arange(10), 200)).mean()
    assert pytest.approx(moved, abs=5 * (0.09 * 0.91 / 2_000) ** 0.5) == 0.09
    space = geometry(torch.from_numpy(rows), torch.from_numpy(labels))
    assert space.intra == pytest.approx(0.92, abs=0.02)


def test_the_set_is_the_same_at_each_call_and_another_for_another_seed():
    first, again, other = gaussian_classes(), gaussian_classes(), gaussian_classes(1)
    assert np.array_equal(first.rows, again.rows)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.rows, other.rows)


def test_one_of_the_two_sets_is_measured_on_its_own_rows_and_the_other_on_a_held_out_half():
    whole, half = load("gaussians"), load("gaussians-halves")
    assert torch.equal(whole.train, whole.test)
    assert len(whole.train) == 2_100
    assert torch.equal(torch.cat((half.train, half.test)).sort().values, torch.arange(2_100))
    for label in half.labels.unique():
        counts = [int((half.labels[side] == label).sum()) for side in (half.train, half.test)]
        assert 0 <= counts[1] - counts[0] <= 1
    assert torch.equal(whole.features, half.features)
    assert whole.fingerprint != half.fingerprint


def test_an_unknown_toy_set_gets_the_nearest_name():
    with pytest.raises(InputError, match=r"unknown toy set 'gausians' \(did you mean 'gaussians'"):
        load("gausians")
