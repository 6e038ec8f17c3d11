import pytest
import torch
import torch.nn.functional as F

from lossgauge.errors import InputError
from lossgauge.heads import LinearHead, MLPHead, ResidualHead
from lossgauge.sphere import normalized


def test_heads_are_their_layers_and_then_the_sphere():
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    linear, mlp = LinearHead(4, 3), MLPHead(4, 3, hidden_size=5)
    torch.testing.assert_close(linear(x), F.normalize(F.linear(x, *linear.linear.parameters())))
    inside = F.linear(x, *mlp.hidden.parameters()).clamp(min=0)
    torch.testing.assert_close(mlp(x), F.normalize(F.linear(inside, *mlp.linear.parameters())))


def test_normalizing_is_torchs_in_value_and_gradient_and_leaves_the_gradient_it_got():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    rows[2] = 0
    given = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    kept = given.clone()
    found, expected = (rows.clone().requires_grad_() for _ in range(2))
    normalized(found).backward(given)
    F.normalize(expected).backward(kept.clone())
    assert torch.equal(given, kept)
    torch.testing.assert_close(normalized(rows), F.normalize(rows))
    usual = torch.arange(6) != 2
    torch.testing.assert_close(found.grad[usual], expected.grad[usual])
    assert torch.autograd.gradcheck(normalized, rows[usual].requires_grad_())


def test_a_residual_head_starts_as_the_normalised_features_bit_for_bit_and_learns():
    x = torch.randn(50, 9, generator=torch.Generator().manual_seed(0)) * 30
    x[3] = 0
    head = ResidualHead(9, rank=2)
    assert torch.equal(head(x), normalized(x))
    head(x).sum().backward()
    assert head.up.grad.any()
    assert not head.down.grad.any()  # B is 0: A learns from the second step on
    with torch.no_grad():
        head.up.normal_()
    inside = x + x @ head.down.T @ head.up.T
    torch.testing.assert_close(head(x), F.normalize(inside))
    assert sum(p.numel() for p in head.parameters()) == 2 * 9 * 2


@pytest.mark.parametrize("rank", [0, 10])
def test_the_rank_of_a_residual_head_is_at_most_the_width(rank):
    with pytest.raises(InputError, match=r"must be in 1 … 9, the width of the features, got"):
        ResidualHead(9, rank=rank)
