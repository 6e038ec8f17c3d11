import pytest
import torch

from lossgauge.diagnostics.uniformity import evenly_spaced, uniformity


def unit_rows(count, width, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(rows)


def test_uniformity_of_many_rows_sorted_by_class_is_near_that_of_all():
    labels = torch.arange(5).repeat_interleave(1000)
    rows = torch.nn.functional.normalize(unit_rows(5, 16)[labels] + 0.3 * unit_rows(5000, 16))
    squared = torch.cdist(rows, rows).square()
    every = (-2 * squared).exp()[~torch.eye(5000, dtype=torch.bool)].mean().log()
    assert uniformity(rows) == pytest.approx(float(every), rel=0.01)


def test_the_rows_that_uniformity_looks_at_reach_the_last_one_of_any_number():
    for count in (2, 2048, 2049, 2**24 + 1, 2**24 + 3, 10**8 + 1):
        picked = evenly_spaced(count)
        assert (picked[0], picked[-1]) == (0, count - 1)
        assert len(picked) == min(count, 2048)
        steps = picked.diff()
        assert 0 < steps.min() <= steps.max() <= steps.min() + 1


def test_more_rows_than_float32_can_count_are_taken():
    rows = torch.tensor([[0.6, 0.8]]).expand(2**24 + 3, 2)
    assert uniformity(rows) == 0


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_uniformity_does_not_see_where_the_rows_lie(offset):
    rows = unit_rows(50, 4)
    pairs = torch.pdist(rows).square()
    expected = float((-2 * pairs).exp().mean().log())
    assert uniformity(rows + offset) == pytest.approx(expected, rel=1e-9)
