import pytest
import torch

from lossgauge.sphere import normalized, on_sphere

SCALES = {
    torch.float16: (6e-8, 1e-4, 1.0, 6e4),
    torch.bfloat16: (1e-40, 1e-20, 1.0, 1e19, 1e38),
    torch.float32: (1e-44, 1e-40, 1e-30, 1e-20, 1e-12, 1.0, 1e19, 1e38),
    torch.float64: (5e-324, 1e-310, 1e-200, 1.0, 1e160, 1e308),
}


@pytest.mark.parametrize("dtype", SCALES, ids=str)
def test_a_row_of_any_size_gets_its_direction(dtype):
    generator = torch.Generator().manual_seed(0)
    for scale in SCALES[dtype]:
        rows = torch.rand(5, 300, dtype=torch.float64, generator=generator).sub_(0.5)
        rows = (rows.mul_(2).clamp_(-1, 1) * scale).to(dtype)
        rows[0] = torch.nn.functional.one_hot(torch.tensor(7), 300) * rows[0].abs().max()
        exact = [[float(x) / float(row.abs().max()) for x in row] for row in rows]
        exact = torch.tensor(exact, dtype=torch.float64)
        exact = exact / exact.norm(dim=1, keepdim=True)
        unit, norms = on_sphere(rows)
        assert unit.dtype == dtype
        torch.testing.assert_close(unit.double(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps)
        assert norms[0].item() == pytest.approx(rows[0].abs().max().item(), rel=1e-3)


def test_rows_of_all_sizes_side_by_side_do_not_disturb_each_other():
    directions = torch.nn.functional.normalize(torch.randn(6, 9, dtype=torch.float64))
    sizes = torch.tensor([[1e-38], [1e-25], [1.0], [1e12], [1e25], [1e37]], dtype=torch.float64)
    unit, norms = on_sphere((directions * sizes).float())
    torch.testing.assert_close(unit, directions.float())
    torch.testing.assert_close(norms.double(), sizes, rtol=1e-6, atol=0)


def test_a_zero_row_stays_zero_and_no_rows_stay_none():
    rows = torch.zeros(2, 3)
    rows[1, 0] = 2
    assert normalized(rows).tolist() == [[0, 0, 0], [1, 0, 0]]
    assert normalized(rows[:0]).shape == (0, 3)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_the_gradient_through_rows_of_any_size_is_that_of_float64(scale):
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(4, 7, generator=generator) * scale).requires_grad_()
    weights = torch.randn(4, 7, generator=generator)
    (found,) = torch.autograd.grad((normalized(rows) * weights).sum(), rows)
    exact = rows.detach().double().requires_grad_()
    value = (exact / exact.norm(dim=1, keepdim=True) * weights).sum()
    (wanted,) = torch.autograd.grad(value, exact)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6 / scale)
