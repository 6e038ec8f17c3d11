import math

import numpy as np
import pytest
import torch

from lossgauge.diagnostics.moments import moments
from lossgauge.diagnostics.spectrum import effective_rank, spectrum


@pytest.mark.parametrize("rows", [7, 50])
def test_spectrum_equals_the_covariance_of_numpy(rows):
    z = np.random.default_rng(0).normal(size=(rows, 20)) * np.linspace(1, 3, 20)
    values = np.sort(np.linalg.eigvalsh(np.cov(z.T, bias=True)))[::-1].clip(0)
    share = values / values.sum()
    of = spectrum(moments(z, np.zeros(rows, int)))
    entropy = -sum(p * math.log(p) for p in share if p > 1e-14)
    assert of.effective_rank == pytest.approx(math.exp(entropy), rel=1e-9)
    assert of.effective_rank == effective_rank(moments(z, np.zeros(rows, int)))
    assert of.participation_ratio == pytest.approx(1 / (share**2).sum(), rel=1e-12)
    assert of.top_share == {n: pytest.approx(share[:n].sum(), rel=1e-12) for n in (1, 4, 16)}
    assert of.for_90_percent == int(np.searchsorted(np.cumsum(share), 0.9)) + 1
    assert 1 <= of.participation_ratio <= of.effective_rank <= min(20, rows - 1) + 1e-9


def test_equal_directions_are_all_needed_and_one_line_needs_one():
    even = spectrum(moments(torch.cat([torch.eye(8), -torch.eye(8)]), np.zeros(16, int)))
    assert even.effective_rank == pytest.approx(8)
    assert even.for_90_percent == 8
    assert even.top_share == {1: pytest.approx(1 / 8), 4: pytest.approx(0.5)}
    line = spectrum(moments(torch.outer(torch.arange(5.0), torch.ones(3)), np.zeros(5, int)))
    assert (line.for_90_percent, line.effective_rank) == (1, pytest.approx(1))


def test_rows_that_do_not_vary_have_no_spectrum():
    of = spectrum(moments(torch.full((6, 4), 0.1), np.zeros(6, int)))
    assert math.isnan(of.effective_rank)
    assert math.isnan(of.top_share[1])
    assert of.for_90_percent == 0
